"""Simulates a run's absences in one process without faults; the soaked run must equal it bit for bit."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.soak.nodes import LogScreen
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
class RunOutput:
    """The machine-independent output of a run: events and summary."""

    rows: list[Row]
    summary: Row


def output_of(run: Path) -> RunOutput:
    """The events and summary of the run in this folder, without wall time, memory and loss events."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    for table, name in ((summary, "transport"), (summary, "wall_s"), (summary["final"], "wall_s")):
        del table[name]
    del summary["client_peak_bytes"], summary["server_peak_bytes"]
    return RunOutput(rows=list(_rows(run / "metrics.jsonl")), summary=summary)


def replay(run: Path, schedule: Schedule, folder: Path) -> RunOutput:
    """Simulates the run's settings with these absences in `folder`."""
    experiment = Experiment.of(load(run / "config.json"))
    folder.mkdir()
    nodes = [
        ClientNode.of(
            experiment, client, CheckpointStore.of_client(folder / "checkpoint" / f"client-{client}")
        )
        for client in range(experiment.config.federation.clients)
    ]
    with Run(experiment, folder, LogScreen(), controller=controller_for(experiment.config)) as simulated:
        run_inproc(experiment.config, nodes, simulated.server_loop, schedule=schedule)
        simulated.finish([])
    return output_of(folder)


def _rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["event"] not in ("lost", "memory"):
                row.pop("wall_s", None)
                yield row
