"""The end of a run on the server."""

from pathlib import Path

import pytest

from splitfl.controller.dry_run import controller_for
from splitfl.core.messages import Leave
from splitfl.run_folder.create import fill
from splitfl.runtime.run import run_in_one_process
from splitfl.runtime.screen import Silent
from splitfl.server.run import Run
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy

place = toy.place(rows=40)


def test_a_run_is_not_over_before_the_snapshot_of_its_last_round(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread may see that all clients have left while the last round still ends."""
    over, take = list[bool](), Run._snapshot

    def watched(run: Run, round_index: int) -> None:
        left = run.server_loop.membership.left
        left |= {client: Leave() for client in range(2)}
        over.append(run.is_over)
        left.clear()
        take(run, round_index)

    monkeypatch.setattr(Run, "_snapshot", watched)
    config = toy.config(place, federation={"clients": 2, "rounds": 2, "local_steps": 1})
    folder = fill(tmp_path / "run", config)
    run_in_one_process(Experiment.of(config), lambda: folder, Silent(), controller_for=controller_for)
    assert over == [False, False]
    assert (folder / "checkpoint" / "round-1.safetensors").exists()
