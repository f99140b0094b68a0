"""Comparisons on a Ray cluster of two nodes on this machine."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.channel.iq.free_ports import free_ports
from tests.command import Command, Start, splitfl
from tests.testbed.waiting import is_learning, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]
pytest.importorskip("ray", reason="the package ray is not installed (extra ray)")

ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_health_check_failure_threshold": "60",  # a busy machine answers late
}
NODE = [
    "--num-cpus",
    "1",
    "--object-store-memory",
    str(80 << 20),
    "--block",
    "--node-ip-address",
    "127.0.0.1",
]


@pytest.fixture
def short_folder() -> Iterator[str]:
    """A folder for Ray's sockets, whose paths may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.fixture
def head(start: Start, short_folder: str, tmp_path: Path) -> str:
    """The address of a cluster with one node."""
    port = free_ports(1)
    words = ["--head", "--port", str(port), "--include-dashboard=false", "--temp-dir", short_folder]
    ray(start, tmp_path / "head.txt", *words)
    return f"127.0.0.1:{port}"


def ray(start: Start, output: Path, *words: str, **env: str) -> psutil.Process:
    """Starts a node, which has joined its cluster when this returns."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *NODE, *words]
    process = start(*command, output=output, **ENVIRONMENT, **env)
    until(lambda: "Ray runtime started" in output.read_text(), 120)
    return psutil.Process(process.pid)


def compare(start: Start, folder: Path, preset: Path, *words: str | Path) -> Command:
    named = ["compare", "--methods", "sfl-v2", "--preset", preset, "--seeds", "2", "--json", *words]
    return splitfl(start, folder, *named, **ENVIRONMENT)


def kill(process: psutil.Process) -> None:
    """Kills a node with all its processes."""
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.kill()
    psutil.wait_procs(family, timeout=10)


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
