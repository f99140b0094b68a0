"""The implementation of `splitfl testbed plan`, `deploy`, `run`, `status`, `collect` and `down`.

torch and matplotlib are imported only after the inventory and the nodes have been checked.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from experiments import presets
from experiments.cli.exits import DONE, FAILED
from experiments.remote.tables import (
    NodesScreen,
    collected_table,
    plan_lines,
    plan_table,
    status_table,
    version_lines,
    warning_lines,
)
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.core.json_text import dumps
from splitfl.runtime.terminal import plain_console, print_note, spinner
from splitfl.setup.experiment_file import as_dict
from testbed.colosseum.rf_scenarios import check_rf_nodes
from testbed.inventory.load import load
from testbed.inventory.nodes import SERVER, Inventory, Node
from testbed.remote import collect as collecting
from testbed.remote import deploy as deploying
from testbed.remote.deployment import (
    Deployment,
    DeploymentFolder,
    check_clients,
    check_folders,
    local_data,
)
from testbed.remote.down import down as remove_all
from testbed.remote.fleet import Fleet, succeeded
from testbed.remote.hooks import run_hook
from testbed.remote.plan import RunPlan, choose_transport, run_plan
from testbed.remote.programs import check_transport
from testbed.remote.run import RemoteRun
from testbed.remote.status import NodeStatus, statuses
from testbed.remote.wheel import wheel_of_this_code

_CHOSEN = tuple(
    f"transport.{key}" for key in ("name", "host", "port", "clients", "rpc_port", "grpc_port", "broker")
)


def plan(
    preset: str, nodes: Path, overrides: Sequence[str], transport: str | None, *, as_json_too: bool
) -> int:
    """Prints the plan; the exit code is FAILED if the reservation is too short, or a node lacks packages."""
    console, inventory = plain_console(stderr=True), load(nodes)
    _check_early(preset, overrides, inventory)
    with Fleet(inventory.members) as fleet:
        fleet.need_all()
        lacking = deploying.lacking_packages(fleet)
    with spinner(console, "examining nodes and paths"):
        choice = choose_transport(inventory, transport)
    _, config = _experiment(preset, [*overrides, *choice.settings(inventory)])
    with spinner(console, "dry run"):
        found = run_plan(inventory, choice, _costs(config))
    if as_json_too:
        click.echo(dumps(_plan_json(inventory, found), indent=2))
    else:
        out = plain_console()
        out.print(plan_table(inventory, found))
        for line in plan_lines(inventory, found):
            out.print(line, soft_wrap=True)
    for line in (*warning_lines(found), *(f"{node}: {reason}" for node, reason in lacking.items())):
        console.print(line, style="yellow", soft_wrap=True)
    return FAILED if found.is_too_short or lacking else DONE


def deploy(
    preset: str,
    nodes: Path,
    overrides: Sequence[str],
    transport: str | None,
    wheel: Path | None,
    *,
    image: bool,
    discard: bool,
) -> None:
    """Deploys, with a line for each step of each node."""
    console, inventory, session = plain_console(stderr=True), load(nodes), DeploymentFolder(nodes)
    _check_early(preset, overrides, inventory)
    session.check_places(inventory)
    for hook in ("prepare_image", "load_image") if image else ():
        run_hook(inventory.hooks, hook, nodes)
    with Fleet(inventory.members) as fleet:
        fleet.need_all()
        succeeded("cannot run splitfl", deploying.lacking_packages(fleet))
        run_hook(inventory.hooks, "start_radio", nodes)
        if discard:
            fleet.all("not reset", lambda link: link.work("reset"))
        else:
            _check_collected(statuses(fleet), session)
        with spinner(console, "examining nodes and paths"):
            choice = choose_transport(inventory, transport)
        console.print(f"transport {choice.transport}: {choice.why}", soft_wrap=True)
        short, config = _experiment(preset, [*overrides, *choice.settings(inventory)])
        check_transport(as_dict(config)["transport"])
        local_data(config.task.data)
        with spinner(console, "building the wheel"):
            built = wheel.absolute() if wheel else wheel_of_this_code(session.folder / "wheel")
        link = fleet.links[inventory.server.name]
        peer = inventory.clients[0].address
        host = link.ask("bind", address=inventory.server.address, peer=peer)["address"]
        routes = {pair.client: pair.route for pair in choice.examination.pairs}
        deployment = Deployment.of(short, config, inventory, choice.transport, host, built, routes)

        def say(node: str, what: str) -> None:
            console.print(f"  {node}: {what}", soft_wrap=True)

        deploying.deploy(fleet, inventory, deployment, session, say)
        plain_console().print(status_table(inventory, statuses(fleet), deployment.rounds))


def run(nodes: Path, *, again: bool) -> int:
    """Runs and watches until the server ends; the exit code is FAILED unless it is done."""
    console, inventory, session = plain_console(stderr=True), load(nodes), DeploymentFolder(nodes)
    deployment = session.deployment()
    session.check_unchanged(inventory)
    with Fleet(inventory.members) as fleet:
        if again:
            fleet.need_all()
            _check_collected(statuses(fleet), session)
            fleet.all("not reset", lambda link: link.work("reset"))
        screen = NodesScreen(console, inventory, deployment.rounds)
        remote = RemoteRun(fleet, inventory, deployment, session, screen.note)
        if not remote.is_running():
            run_hook(inventory.hooks, "start_channel", nodes)
        with screen:
            remote.start()
            found: list[NodeStatus] = []
            for found in remote.watch():
                screen.show(found)
    plain_console().print(status_table(inventory, found, deployment.rounds))
    return DONE if any(one.node.role == SERVER and one.state == "done" for one in found) else FAILED


def status(nodes: Path, *, as_json: bool) -> int:
    """Prints the state of every node; the exit code is FAILED if one cannot be reached, or has failed."""
    inventory, session = load(nodes), DeploymentFolder(nodes)
    rounds = session.deployment().rounds
    with Fleet(inventory.members) as fleet:
        found = statuses(fleet)
    if as_json:
        rows = [
            {
                "node": one.node.name,
                "role": one.node.role,
                "state": one.state,
                "detail": one.detail,
                **one.look,
            }
            for one in found
        ]
        click.echo(dumps(rows, indent=2))
    else:
        plain_console().print(status_table(inventory, found, rounds))
    return FAILED if any(one.state in ("unreachable", "failed", "lost") for one in found) else DONE


def collect(nodes: Path, out: Path) -> int:
    """Collects into one folder with its report; the exit code is FAILED if a node is missing."""
    console, inventory, session = plain_console(stderr=True), load(nodes), DeploymentFolder(nodes)
    deployment = session.deployment()
    session.check_unchanged(inventory)
    with Fleet(inventory.members) as fleet:
        found = collecting.collect(fleet, inventory, deployment, session, out)
    folder = found.folder
    run_hook(inventory.hooks, "fetch_results", nodes, folder)
    if (folder / "config.json").exists():
        from experiments.report import write_report  # imports matplotlib

        write_report(folder)
    if found.run:
        session.note_collected(found.run)
    for name, reason in found.missing.items():
        console.print(f"{name}: not collected: {reason}", style="yellow", soft_wrap=True)
    _print_collected(folder)
    return FAILED if found.missing else DONE


def down(nodes: Path, *, forget: bool) -> None:
    """Removes everything from the nodes of the inventory and of the last `deploy`, and from this machine."""
    console, inventory, session = plain_console(stderr=True), load(nodes), DeploymentFolder(nodes)
    members = {node.name: node for node in (*inventory.members, *session.nodes())}
    try:
        run_hook(inventory.hooks, "stop_channel", nodes)
    finally:
        _remove(members.values(), session, console, forget=forget)


def _remove(members: Iterable[Node], session: DeploymentFolder, console: Console, *, forget: bool) -> None:
    with Fleet(members) as fleet:
        gone = dict(fleet.unreachable)
        for name, removed in remove_all(fleet, session, forget=forget).items():
            console.print(f"  {name}: {'removed' if removed else 'nothing was there'}", soft_wrap=True)
        for name, reason in gone.items():
            console.print(f"  {name}: forgotten, whatever is there: {reason}", style="yellow", soft_wrap=True)


def _check_early(preset: str, overrides: Sequence[str], inventory: Inventory) -> None:
    """Checks what needs neither torch nor the nodes."""
    for override in overrides:
        if override.partition("=")[0].strip() in _CHOSEN:
            raise ConfigError(
                f"--set {override}: the inventory has addresses and ports, and --transport chooses"
            )
    check_clients(presets.without_learning(preset, overrides), inventory)
    check_folders(inventory)
    check_rf_nodes(inventory)


def _experiment(preset: str, overrides: Sequence[str]) -> tuple[str, RunConfig]:
    from splitfl.runtime.quiet import quiet

    quiet()
    return presets.find(preset, overrides, print_note)


def _costs(config: RunConfig) -> dict[str, float]:
    from splitfl.comparison.compare import plan_methods

    name = config.method.name
    return dict(plan_methods(as_dict(config), [], [name], {}).costs[name])


def _check_collected(found: list[NodeStatus], session: DeploymentFolder) -> None:
    """Raises ConfigError if a run would be lost."""
    version = next((one.look["state"]["version"] for one in found if one.run), "")
    if run := collecting.not_collected(found, session, version):
        raise ConfigError(
            f"the nodes hold the run {run}: `splitfl testbed collect` first, or discard it with `down`"
        )


def _plan_json(inventory: Inventory, found: RunPlan) -> dict[str, Any]:
    choice = found.choice
    pairs = [
        {**vars(pair), "transport": own}
        for pair, own in zip(choice.examination.pairs, choice.clients, strict=True)
    ]
    shown = ("role", "address", "ssh", "radio", "rf_node")
    nodes = [{"node": node.name, **{key: getattr(node, key) for key in shown}} for node in inventory.nodes]
    own: dict[str, Any] = {"transport": choice.transport, "why": choice.why, "costs": dict(found.costs)}
    own |= {"scenario": vars(inventory.scenario)}
    own |= {"transfer_s": found.transfer_s, "duration_s": found.duration_s, "reserved_s": found.reserved_s}
    return {"nodes": nodes, "pairs": pairs, **own, "is_too_short": found.is_too_short}


def _print_collected(folder: Path) -> None:
    from experiments.report.nodes import node_rows

    console = plain_console()
    rows = node_rows(folder)
    console.print(collected_table(rows))
    for line in version_lines(rows):
        console.print(line, soft_wrap=True)
    console.print(str(folder), soft_wrap=True)
