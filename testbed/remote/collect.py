"""Merges everything that the nodes wrote into one run folder."""

import heapq
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitfl.core.errors import ConfigError, SplitflError
from splitfl.core.json_text import dumps
from testbed.clocks import ClockOffset, NodeClock
from testbed.inventory.nodes import SERVER, Inventory
from testbed.remote import ssh
from testbed.remote.deployment import Deployment, DeploymentFolder
from testbed.remote.fleet import Fleet, NodeConnection
from testbed.remote.message_delays import MESSAGES, merged_messages
from testbed.remote.status import NodeStatus, statuses

NODES: Final = "nodes.json"
"""The file of the merged folder with a row for each node."""
TIMELINE: Final = "timeline.log"
DELAYS: Final = "delays.json"
RADIO: Final = "radio"
"""The folder of a node's own radio records, in its folder."""


@dataclass(frozen=True, kw_only=True)
class Collected:
    """The merged folder, the nodes that are missing in it with reasons, and the name of a complete run.

    `run` is empty as long as nodes are missing or the server runs.
    """

    folder: Path
    missing: Mapping[str, str]
    run: str


def collect(
    fleet: Fleet, inventory: Inventory, deployment: Deployment, session: DeploymentFolder, out: Path
) -> Collected:
    """Merges what the nodes have into a run folder in `out`; may be killed anywhere and repeated.

    What can be reached is taken; a repetition adds what has become reachable since, and a measurement of the
    clocks. Raises ConfigError if nothing has run.
    """
    found = statuses(fleet)
    offsets = {
        name: one
        for name, one in fleet.each(lambda link: link.clock_offset()).items()
        if isinstance(one, ClockOffset)
    }
    session.add_clocks(offsets)
    if not any(one.program for one in found):
        failed = {one.node.name: one.detail for one in found if one.state == "unreachable"}
        reasons = "".join(f"; {name}: {reason}" for name, reason in failed.items())
        raise ConfigError(f"there is nothing to collect: no node has run a program{reasons}")
    server = next(one for one in found if one.node.role == SERVER)
    name = server.run.get("folder") or f"{deployment.name}-{deployment.version}"
    folder = out / str(name)
    pulled = fleet.each(lambda link: _pull(link, server, folder))
    missing = {one: str(error) for one, error in pulled.items() if isinstance(error, SplitflError)}
    missing |= {one: reason for one, reason in fleet.unreachable.items()}
    if server.run:
        _restore_own_paths(folder, deployment)
    rows = [_row(one, inventory, deployment, session.clocks(), missing) for one in found]
    _write(folder / NODES, dumps(rows, indent=1))
    _write(folder / TIMELINE, "".join(_timeline(folder, session.clocks())))
    _write_messages(folder, inventory, session.clocks())
    is_complete = not missing and server.state != "running"
    run = f"{deployment.version}/{name}" if is_complete else ""
    return Collected(folder=folder, missing=missing, run=run)


def not_collected(found: list[NodeStatus], session: DeploymentFolder, version: str) -> str:
    """The name of a run on the server's node that was not collected; empty if there is none."""
    run = next((str(one.run["folder"]) for one in found if one.run), "")
    return run if run and f"{version}/{run}" not in session.collected() else ""


def _pull(link: NodeConnection, server: NodeStatus, folder: Path) -> None:
    source = f"{link.node.folder}/run"
    if link.node.role == SERVER and server.run:
        ssh.pull(link.node, f"{source}/runs/{server.run['folder']}", folder, leave_out=["/checkpoint"])
    own = folder / "nodes" / link.node.name
    ssh.pull(link.node, source, own, leave_out=["/runs", "/state"])
    if link.node.radio_log:
        ssh.pull_path(link.node, link.node.radio_log, own / RADIO)


def _restore_own_paths(folder: Path, deployment: Deployment) -> None:
    """Names files as in the user's settings, instead of the server's copies, which `down` removes."""
    files = (("model", "name"), ("task", "data"), ("transport", "secrets"))
    own = {path: deployment.settings[path[0]].get(path[1]) for path in files}
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # the run ended before it wrote its settings
    for name in ("summary.json", "adapter/adapter_config.json", "config.json"):  # which has the paths: last
        if not (folder / name).exists():
            continue
        text = (folder / name).read_text(encoding="utf-8")
        for (table, key), value in own.items():
            if there := config[table].get(key):
                text = text.replace(json.dumps(there), json.dumps(value))
        _write(folder / name, text)


def _row(
    one: NodeStatus,
    inventory: Inventory,
    deployment: Deployment,
    clocks: Mapping[str, list[ClockOffset]],
    missing: Mapping[str, str],
) -> dict[str, Any]:
    node, offsets = one.node, clocks.get(one.node.name, [])
    client = inventory.clients.index(node) if node in inventory.clients else None
    row: dict[str, Any] = {
        "node": node.name,
        "role": node.role,
        "client": client,
        "address": node.address,
        "radio": node.radio,
        "transport": deployment.transport if client is None else deployment.transport_of(client),
        "state": one.state,
        "missing": missing.get(node.name),
        "versions": (one.look.get("state") or {}).get("versions", {}),
        "starts": one.program.get("starts", 0),
        "clock_offsets": [vars(offset) for offset in offsets],
        "network": _carried(one.program),
    }
    for key in ("started_s", "ended_s"):
        there_s = one.program.get(key)
        here = NodeClock(offsets).here(float(there_s)) if there_s and offsets else (None, None)
        row |= {key: here[0], f"{key.removesuffix('_s')}_within_s": here[1]}
    return row


def _carried(program: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the node's network carried while its program ran last; None if it has not ended."""
    if "network_at_end" not in program:
        return None
    before, after = program["network"], program["network_at_end"]
    known = before["interfaces"]
    interfaces = {
        name: {key: value - known.get(name, {}).get(key, 0) for key, value in counters.items()}
        for name, counters in after["interfaces"].items()
    }
    segments = {key: value - before["tcp_segments"][key] for key, value in after["tcp_segments"].items()}
    return {"interfaces": interfaces, "tcp_segments": segments}


def _timeline(folder: Path, clocks: Mapping[str, list[ClockOffset]]) -> Iterator[str]:
    """The lines of all logs in the order of this machine's clock, each with its uncertainty."""
    logs = sorted((folder / "nodes").glob("*/*.log"))
    known = [log for log in logs if clocks.get(log.parent.name)]
    lines = (_lines(log, NodeClock(clocks[log.parent.name])) for log in known)
    for here_s, within_s, who, text in heapq.merge(*lines, key=lambda line: line[0]):
        yield f"{here_s:.4f} +-{within_s:.4f} {who}: {text}\n"


def _lines(log: Path, clock: NodeClock) -> Iterator[tuple[float, float, str, str]]:
    for line in log.read_text(errors="replace").splitlines():
        stamp, _, text = line.partition(" ")
        try:
            there_s = float(stamp)
        except ValueError:
            continue  # the rest of a line that a killed program left unfinished
        yield *clock.here(there_s), f"{log.parent.name} {log.stem}", text


def _write_messages(folder: Path, inventory: Inventory, clocks: Mapping[str, list[ClockOffset]]) -> None:
    """Writes when all messages were sent and received, and each client's one-way delays, if there are any."""
    clients = {number: node.name for number, node in enumerate(inventory.clients)}
    messages, delays = merged_messages(folder / "nodes", inventory.server.name, clients, clocks)
    if not messages:
        return
    _write(folder / MESSAGES, "".join(dumps(vars(one)) + "\n" for one in messages))
    _write(folder / DELAYS, dumps([vars(one) for one in delays], indent=1))


def _write(path: Path, text: str) -> None:
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
