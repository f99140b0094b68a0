"""Tables of nodes: what is planned, their states, and what was collected."""

from collections.abc import Iterable, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from splitfl.core.quantities import bytes_text, seconds_text
from testbed.doctor.findings import OWN_NAME, WARNING
from testbed.inventory.nodes import NO_ROLE, SERVER, Inventory
from testbed.remote.plan import RunPlan
from testbed.remote.status import NodeStatus

_COLOURS = {"running": "green", "done": "green", "ready": "default", "not deployed": "yellow"}
_COSTS = {
    "bytes_up": bytes_text,
    "bytes_down": bytes_text,
    "airtime_s": seconds_text,
    "virtual_s": seconds_text,
}


def plan_table(inventory: Inventory, plan: RunPlan) -> Table:
    """A row for each node: role, address, ssh name, radio, and its route and transports to the server.

    Columns that no node has anything for are left out.
    """
    pairs = {pair.client: pair for pair in plan.choice.examination.pairs}
    rows = []
    for node in inventory.nodes:
        pair = pairs.get(node.name)
        row = {
            "node": node.name,
            "role": _role(inventory, node.name),
            "address": node.address,
            "reached by": node.ssh or (f"lab {node.lab}" if node.lab else "this machine"),
            "radio": node.radio,
            "RF node": str(node.rf_node or ""),
            "server at": pair.route if pair else "",
            "transports to it": (", ".join(pair.works) or "none") if pair else "",
        }
        rows.append(row)
    table, used = Table(), [name for name in rows[0] if any(row[name] for row in rows)]
    for name in used:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(row[name] for name in used))
    return table


def plan_lines(inventory: Inventory, plan: RunPlan) -> list[str]:
    """Sentences on the transport, the channel scenario, the costs and the reservation."""
    costs = {name: show(plan.costs[name]) for name, show in _COSTS.items()}
    lines = [
        f"transport {plan.choice.transport}: {plan.choice.why}",
        *_scenario_lines(inventory),
        f"{costs['bytes_up']} up and {costs['bytes_down']} down, all clients; {costs['airtime_s']} of "
        f"airtime and {costs['virtual_s']} in all on the experiment's link and at its declared speeds",
    ]
    if plan.transfer_s is not None:
        lines.append(
            f"at the measured rates the slowest client needs {seconds_text(plan.transfer_s)} to transfer"
        )
    if plan.reserved_s:
        verdict = "is too short" if plan.is_too_short else "is long enough"
        lines.append(
            f"the reservation of {seconds_text(plan.reserved_s)} {verdict}: the run takes about "
            f"{seconds_text(plan.duration_s)}, without deploying and collecting"
        )
    return lines


def warning_lines(plan: RunPlan) -> list[str]:
    """What the doctor warns of on each node, as a disk that is nearly full, if it matters to splitfl."""
    found = (one for one in plan.choice.examination.findings if one.state == WARNING)
    return [f"{one.node}: {one.check}: {one.detail}" for one in found if one.check != OWN_NAME]


def _scenario_lines(inventory: Inventory) -> list[str]:
    """The channel scenario and the node of the inventory at each of its nodes; none without a scenario."""
    if not inventory.scenario.id:
        return []
    places = sorted((node.rf_node, node.name) for node in inventory.nodes if node.rf_node)
    mapped = ", ".join(f"node {place} is {name}" for place, name in places) or "no node has an rf_node"
    return [f"scenario {inventory.scenario.id}: {mapped}"]


def status_table(inventory: Inventory, found: Iterable[NodeStatus], rounds: int) -> Table:
    """A row for each node with its state and last output."""
    table = Table("node", "role", "state", "round", "starts", "detail")
    for one in found:
        state = Text(one.state, style=_COLOURS.get(one.state, "red"))
        done = f"{one.run['rounds']}/{rounds}" if one.run else ""
        starts = str(one.program.get("starts", ""))
        table.add_row(one.node.name, _role(inventory, one.node.name), state, done, starts, Text(one.detail))
    return table


def collected_table(rows: Iterable[Mapping[str, str]]) -> Table:
    """The rows of `experiments.report.nodes.node_rows` without the versions."""
    table = Table("node", "role", "state", "started (UTC)", "ended (UTC)", "clock ahead by")
    for row in rows:
        table.add_row(*(Text(cell) for name, cell in row.items() if name != "versions"))
    return table


def version_lines(rows: Iterable[Mapping[str, str]]) -> list[str]:
    """A line for each combination of versions, with the nodes that have it."""
    nodes: dict[str, list[str]] = {}
    for row in rows:
        nodes.setdefault(row["versions"], []).append(row["node"])
    return [f"{', '.join(names)}: {versions}" for versions, names in nodes.items() if versions]


class NodesScreen:
    """Shows the nodes' states during a run: a live table on a terminal, else a line for each change."""

    def __init__(self, console: Console, inventory: Inventory, rounds: int) -> None:
        self._console, self._inventory, self._rounds = console, inventory, rounds
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._before: dict[str, tuple[str, str]] = {}

    def note(self, what: str) -> None:
        """Prints a sentence above the table."""
        self._console.print(f"  {what}", style="yellow", soft_wrap=True)

    def show(self, found: list[NodeStatus]) -> None:
        """Shows new states."""
        if self._console.is_terminal:
            self._live.update(Group(status_table(self._inventory, found, self._rounds)), refresh=True)
            return
        for one in found:
            now = one.state, one.detail
            if self._before.get(one.node.name) != now:
                self._before[one.node.name] = now
                self._console.print(f"  {one.node.name}: {one.state}  {one.detail}", soft_wrap=True)

    def __enter__(self) -> "NodesScreen":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()


def _role(inventory: Inventory, name: str) -> str:
    numbers = {node.name: f"client {number}" for number, node in enumerate(inventory.clients)}
    return numbers.get(name, SERVER if name == inventory.server.name else NO_ROLE)
