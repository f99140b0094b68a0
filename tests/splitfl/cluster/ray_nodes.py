"""Nodes of a Ray cluster on this machine, over loopback."""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.channel.iq.free_ports import free_ports
from tests.command import Start
from tests.testbed.waiting import until

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


def kill(process: psutil.Process) -> None:
    """Kills a node with all its processes."""
    family = [process, *process.children(recursive=True)]
    for one in family:
        one.kill()
    psutil.wait_procs(family, timeout=10)
