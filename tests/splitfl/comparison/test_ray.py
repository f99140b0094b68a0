"""Comparisons on a Ray cluster of two nodes on this machine."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.command import Command, Start, splitfl
from tests.splitfl.cluster.ray_nodes import ENVIRONMENT, head, kill, ray, short_folder
from tests.testbed.waiting import is_learning, until

__all__ = ["head", "short_folder"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]
pytest.importorskip("ray", reason="the package ray is not installed (extra ray)")


def compare(start: Start, folder: Path, preset: Path, *words: str | Path) -> Command:
    named = ["compare", "--methods", "sfl-v2", "--preset", preset, "--seeds", "2", "--json", *words]
    return splitfl(start, folder, *named, **ENVIRONMENT)


def table(command: Command) -> list[dict[str, Any]]:
    """The standings, without the time that the runs took on this machine."""
    assert command.code(timeout_s=300) == 0, command.complained()
    assert command.said()["failed"] == command.said()["excluded"] == {}
    return [
        {key: value for key, value in row.items() if key != "wall_s"} for row in command.said()["standings"]
    ]


@pytest.mark.timeout(900)
def test_a_comparison_that_loses_its_driver_and_a_node_has_the_table_of_processes(
    preset: Path, start: Start, head: str, tmp_path: Path
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    node = ray(start, tmp_path / "node.txt", "--address", head, "--node-name", "second", TMPDIR=str(there))
    out = tmp_path / "runs"
    words = ["--on", f"ray:{head}", "--out", out, "--set", "federation.rounds=20"]
    first = compare(start, tmp_path, preset, *words)
    done = until(lambda: list(out.rglob("summary.json")), 240)
    first.process.kill()
    old = set(there.iterdir())
    written = {path: path.stat().st_mtime_ns for path in done}

    again = compare(start, tmp_path, preset, *words)
    until(lambda: any(is_learning(path) for path in {*there.iterdir()} - old), 240)
    kill(node)
    found = table(again)
    assert len(found) == 3
    assert {path: path.stat().st_mtime_ns for path in done} == written
    assert "Task run_on_node failed" in again.complained()
    assert "--on" in json.loads((done[0].parent / "environment.json").read_text())["command"]
    assert {path.name for path in out.glob("compare-toy/*/*")} == {"seed-0", "seed-1"}

    here = ["--jobs", "2", "--out", tmp_path / "here", "--set", "federation.rounds=20"]
    assert found == table(compare(start, tmp_path, preset, *here))


@pytest.mark.timeout(300)
def test_a_node_with_another_version_is_named_before_anything_runs(
    preset: Path, start: Start, head: str, tmp_path: Path
) -> None:
    other = tmp_path / "other" / "peft-0.0.1.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: peft\nVersion: 0.0.1\n")
    path = ":".join([str(other.parent), os.environ.get("PYTHONPATH", "")]).rstrip(":")
    ray(start, tmp_path / "node.txt", "--address", head, "--node-name", "second", PYTHONPATH=path)
    command = compare(start, tmp_path, preset, "--on", f"ray:{head}", "--out", tmp_path / "runs")
    assert command.code(timeout_s=120) == 2
    assert "the Ray node second differs from this process: peft is 0.0.1 there and" in command.complained()
    assert not (tmp_path / "runs").exists()
