"""The logs of a batch job's nodes, merged into one folder for each loop."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitfl.core.errors import DataError
from testbed.colosseum.radio_conf import RadioConf, load_radio_conf
from testbed.inventory.nodes import SERVER
from testbed.remote.collect import NODES

_LOG: Final = "radio.log"  # of splitfl-radio, in /logs of every node


@dataclass(frozen=True, kw_only=True)
class NodeLogs:
    """/logs of one node: its settings, its folder, and its folders of loops by number."""

    conf: RadioConf
    folder: Path
    loops: dict[int, Path]

    def versions(self) -> dict[str, str | None]:
        """The versions that `testbed.colosseum.warm` printed; none of a node that loaded no model."""
        path = self.folder / "warm.log"
        for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
            with suppress(ValueError, TypeError, KeyError):
                return dict(json.loads(line)["versions"])
        return {}

    def exit_status(self, loop: int) -> int | None:
        """The exit status of the loop's run; None if it never ended, or the node had no such loop."""
        try:
            return int((self.loops[loop] / "exit_status").read_text())
        except (KeyError, OSError, ValueError):
            return None


def find_logs(folder: Path) -> list[NodeLogs]:
    """The nodes' logs below a reservation's folder. Raises DataError if there are none, or twice the same.

    Raises ConfigError for a radio.conf that splitfl-radio would refuse.
    """
    found = [logs for path in sorted(folder.rglob(_LOG)) for logs in _logs(path.parent)]
    if not found:
        raise DataError(f"{folder}: no folder of a node that ran splitfl-radio, with {_LOG} and radio.conf")
    names = [logs.conf.node for logs in found]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"{folder}: the logs of {name} are there more than once; give one reservation")
    return found


def collect(folder: Path, out: Path) -> list[NodeLogs]:
    """Copies the logs: loop-N/ has the server's run folder and, in nodes/NAME, each node's logs.

    What is missing is left out; collecting again adds what has come since. Raises DataError.
    """
    found = find_logs(folder)
    for logs in found:
        for loop, source in logs.loops.items():
            run = out / f"loop-{loop}"
            shutil.copytree(source, run / "nodes" / logs.conf.node, dirs_exist_ok=True)
            for own in _runs(source) if logs.conf.role == SERVER else ():
                shutil.copytree(own, run, dirs_exist_ok=True)
                shutil.rmtree(run / "nodes" / logs.conf.node / own.name)
        for path in logs.folder.glob("*.log"):
            target = out / "nodes" / logs.conf.node
            target.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    for loop in {loop for logs in found for loop in logs.loops}:
        rows = [_row(logs, loop) for logs in found]
        (out / f"loop-{loop}" / NODES).write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return found


def _row(logs: NodeLogs, loop: int) -> dict[str, Any]:
    """The node as a run's report shows it; a batch job does not measure its clock's offset."""
    code = logs.exit_status(loop)
    unknown = ("client", "started_s", "started_within_s", "ended_s", "ended_within_s")
    return {
        "node": logs.conf.node,
        "role": logs.conf.role,
        "state": "did not end" if code is None else f"ended with {code}",
        "missing": None if loop in logs.loops else f"no logs of loop {loop}",
        "clock_offsets": [],
        "versions": logs.versions(),
        **dict.fromkeys(unknown),
    }


def _logs(folder: Path) -> Iterator[NodeLogs]:
    loops = {
        int(path.name.removeprefix("loop-")): path
        for path in folder.glob("loop-*")
        if path.is_dir() and path.name.removeprefix("loop-").isdecimal()
    }
    for place in (*loops.values(), folder):
        path = place / "radio.conf"
        if path.is_file():
            yield NodeLogs(conf=load_radio_conf(path), folder=folder, loops=loops)
            return


def _runs(loop: Path) -> list[Path]:
    """The run folders in a loop's folder of the server."""
    return sorted(path.parent for path in loop.glob("*/config.json"))
