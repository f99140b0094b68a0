"""A run's events once more in one process, undisturbed: what the soaked run must equal to the last bit."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.soak.lives import LogScreen
from splitfl.client.client import ClientNode
from splitfl.controller.dry_run import controller_for
from splitfl.core.checkpoint import CheckpointStore
from splitfl.runtime.simulate import run_inproc
from splitfl.server.absences import Schedule
from splitfl.server.run import Run
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a run said that does not depend on the machine: its events, and its sums."""

    rows: list[Row]
    summary: Row


def told(run: Path) -> Told:
    """What the run in this folder said; of the processes that it lost only what came of that."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    for table, name in ((summary, "transport"), (summary, "wall_s"), (summary["final"], "wall_s")):
        del table[name]
    del summary["client_peak_bytes"], summary["server_peak_bytes"]
    return Told(rows=list(_rows(run / "metrics.jsonl")), summary=summary)


def replay(run: Path, schedule: Schedule, folder: Path) -> Told:
    """The same settings and absences, simulated in `folder`."""
    site = Experiment.of(load(run / "config.json"))
    folder.mkdir()
    nodes = [
        ClientNode.of(site, client, CheckpointStore.of_client(folder / "checkpoint" / f"client-{client}"))
        for client in range(site.config.federation.clients)
    ]
    with Run(site, folder, LogScreen(), controller=controller_for(site.config)) as simulated:
        run_inproc(site.config, nodes, simulated.server_loop, schedule=schedule)
        simulated.finish([])
    return told(folder)


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["event"] not in ("lost", "memory"):
                row.pop("wall_s", None)
                yield row
