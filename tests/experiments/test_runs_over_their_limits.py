"""Whole runs that a person interrupts, or that take longer than their settings allow."""

import signal
import time
from pathlib import Path

import pytest

from splitfl.core.checkpoint import CheckpointStore
from tests.command import Start, splitfl
from tests.experiments.test_runs_that_lose_somebody import (
    ROUNDS,
    await_round,
    client_of,
    place,
    run_folder,
    settings,
    story,
    undisturbed,
)

__all__ = ["place"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("transport", [pytest.param("inproc", marks=pytest.mark.long), "grpc"])
def test_an_interrupted_run_resumes_from_its_checkpoint_to_the_same_bits(
    start: Start, place: Path, tmp_path: Path, transport: str
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    command = splitfl(start, folder, "run", settings(place, folder, transport), "--out", folder / "runs")
    await_round(folder, 4, command)
    command.process.send_signal(signal.SIGINT)
    assert command.code() == 1
    assert "Error: interrupted" in command.complained()
    assert "Traceback" not in command.complained()
    assert CheckpointStore(run_folder(folder) / "checkpoint").rounds()
    resumed = splitfl(start, tmp_path, "resume", run_folder(folder))
    assert resumed.code() == 0, resumed.complained()
    assert story(folder) == undisturbed(start, place, tmp_path / "whole")


def test_a_second_interrupt_ends_a_run_at_once(start: Start, place: Path, tmp_path: Path) -> None:
    command = splitfl(start, tmp_path, "run", settings(place, tmp_path), "--out", tmp_path / "runs")
    await_round(tmp_path, 3, command)
    stopped = client_of(command, 0)
    stopped.suspend()  # so that it does not hear that it is to end
    command.process.send_signal(signal.SIGINT)
    deadline_s = time.monotonic() + 60
    while not (run_folder(tmp_path) / "summary.json").exists():
        assert time.monotonic() < deadline_s, command.complained()
        time.sleep(0.02)
    command.process.send_signal(signal.SIGINT)
    assert command.code() == -signal.SIGINT  # had it waited for its client, it would have ended with 1
    stopped.kill()


def test_a_run_beyond_its_time_limit_ends_with_a_message_and_can_be_resumed(
    start: Start, place: Path, tmp_path: Path
) -> None:
    experiment = settings(place, tmp_path, "inproc", fault_tolerance={"run_s": 0.05})
    command = splitfl(start, tmp_path, "run", experiment, "--out", tmp_path / "runs")
    assert command.code() == 1
    assert "Error: the run took longer than fault_tolerance.run_s, 0.05 s" in command.complained()


def test_a_client_that_holds_the_others_up_is_lost_and_comes_back(
    start: Start, place: Path, tmp_path: Path
) -> None:
    fault_tolerance = {"on_loss": "continue", "step_s": 1.0}
    experiment = settings(place, tmp_path, fault_tolerance=fault_tolerance)
    command = splitfl(start, tmp_path, "run", experiment, "--out", tmp_path / "runs")
    await_round(tmp_path, 3, command)
    slow = client_of(command, 1)
    slow.suspend()
    await_round(tmp_path, 8, command)
    slow.resume()
    assert command.code() == 0, command.complained()
    assert "client 1 exceeded fault_tolerance.step_s, 1 s, and is treated as lost" in command.complained()
    rows = story(tmp_path)
    assert {row["client"] for row in rows if row["event"] == "absent"} == {1}
    assert {row["round"] for row in rows if row["event"] == "step" and row["client"] == 0} == set(
        range(ROUNDS)
    )
