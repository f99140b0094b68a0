"""A split run over the waveform: the same learning as in one process, and nothing left behind."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from testbed.namespaces import started_at
from tests.command import Command, Start, splitfl
from tests.splitfl import toy
from tests.testbed.waiting import is_learning, until

pytest.importorskip("numba", reason="numba is not installed")
pytest.importorskip("zmq", reason="pyzmq is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="TUN needs root and /dev/net/tun"
    ),
]
NAMED = Path("/run/netns")
EDGE = """
about = "a constant loss that leaves 9 dB downlink and 11 dB uplink at 500 ksps"
[place]
environment = "constant"
loss_db = 142.2
users = 2
shadowing = false
[carrier]
base_dbm = 40.0
uplink_target_snr_db = 80.0
[device]
transmit_dbm = 40.0
[fading]
profile = "none"
"""

place = toy.place()


def begin(start: Start, place: Path, folder: Path, *words: str | Path, **tables: Any) -> Command:
    transport = {"name": "rpc", "timeout_s": 60.0, "join_timeout_s": 120.0}
    path = folder / "toy.json"
    path.write_text(json.dumps(toy.table(place, **{"transport": transport, **tables})))
    return splitfl(start, folder, "run", path, "--out", folder / "runs", "--json", *words)


def losses(folder: Path) -> list[tuple[int, int, int, float]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return sorted((r["round"], r["client"], r["step"], r["loss"]) for r in rows if r["event"] == "step")


def spaces_of(pid: int, ticks: str) -> list[str]:
    return [entry.name for entry in NAMED.iterdir() if f"-{pid}-{ticks}-" in entry.name]


def test_a_run_over_the_waveform_is_bit_identical_to_the_one_in_process(
    start: Start, place: Path, tmp_path: Path
) -> None:
    """Although radio packets are lost: ARQ sends them again."""
    scenario = tmp_path / "edge.toml"
    scenario.write_text(EDGE)
    command = begin(start, place, tmp_path, "--radio", scenario)
    ticks = started_at(command.process.pid)
    assert command.code(400.0) == 0, command.complained()
    plain = begin(start, place, tmp_path, "--set", "transport.name=inproc")
    assert plain.code(120.0) == 0, plain.complained()
    ours, theirs = (Path(one.said()["folder"]) for one in (command, plain))
    assert losses(ours) == losses(theirs)
    weights = [load_file(folder / "adapter" / "adapter_model.safetensors") for folder in (ours, theirs)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    radio = command.said()["radio"]
    rows = radio["links"]
    assert [(row["source"], row["target"]) for row in rows] == [(1, 0), (2, 0), (0, 1), (0, 2)]
    assert sum(row["bad"] for row in rows) > 0
    assert sum(row["retransmissions"] for row in rows) >= sum(row["bad"] for row in rows)
    assert sum(row["given_up"] for row in rows) == 0
    assert min(radio["airtime_s"]) > 0.0
    page = (ours / "report.html").read_text()
    assert "<h2>Waveform</h2>" in page
    assert "What each node heard" in page
    assert "The estimated channel of each link" in page
    assert spaces_of(command.process.pid, ticks) == []


@pytest.mark.parametrize("victim", ["run", "testbed.radio.air_process", "radio bridge"])
def test_a_killed_process_is_reported_and_leaves_nothing(
    victim: str, start: Start, place: Path, tmp_path: Path
) -> None:
    long = {"federation": {"clients": 1, "rounds": 500, "local_steps": 20}, "eval": {"every": 0}}
    command = begin(start, place, tmp_path, "--radio", "ideal", **long)
    pid, ticks = command.process.pid, started_at(command.process.pid)
    until(lambda: is_learning(tmp_path) or command.process.poll() is not None, 300.0)
    assert command.process.poll() is None, command.complained()
    assert len(spaces_of(pid, ticks)) == 3
    family = psutil.Process(pid).children(recursive=True)
    named = (child.pid for child in family if victim in " ".join(child.cmdline()))
    killed = pid if victim == "run" else next(named)
    os.kill(killed, signal.SIGKILL)
    code = command.code(60.0)
    if victim != "run":
        assert code == 1
        last = command.complained().strip().splitlines()[-1]
        assert last.startswith("Error: the radio link's ")
        assert "died with signal SIGKILL" in last
    until(lambda: spaces_of(pid, ticks) == [])
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in family))
