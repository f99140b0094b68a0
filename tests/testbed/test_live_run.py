"""A whole experiment over real packets: the same learning, in real time, and nobody left whoever dies."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from testbed.namespaces import started_at
from tests.command import Command, Start, splitfl
from tests.splitfl import toy
from tests.testbed.waiting import is_learning, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/net/tun").exists(), reason="live links need root and /dev/net/tun"
    ),
]
NAMED = Path("/run/netns")
LINK = {
    "up": {"rate_bps": 20e6, "delay_s": 0.005, "loss_rate": 0.05},
    "down": {"rate_bps": 50e6, "delay_s": 0.005, "loss_rate": 0.02},
}
LONG = {"federation": {"clients": 2, "rounds": 500, "local_steps": 20}, "eval": {"every": 0}}

Run = Callable[..., Command]


place = toy.place()


@pytest.fixture
def begin(place: Path, tmp_path: Path, start: Start) -> Run:
    """Starts a run of the toy experiment, by default over a live link."""

    def run(*words: str, **tables: Any) -> Command:
        transport = {"name": "rpc", "timeout_s": 15.0, "join_timeout_s": 60.0}
        path = tmp_path / "toy.json"
        path.write_text(json.dumps(toy.table(place, **{"transport": transport, "link": LINK, **tables})))
        return splitfl(start, tmp_path, "run", path, "--out", tmp_path / "runs", "--json", *words)

    return run


def spaces_of(command: Command, ticks: str) -> list[str]:
    return [entry.name for entry in NAMED.iterdir() if f"-{command.process.pid}-{ticks}-" in entry.name]


def family_of(command: Command) -> list[psutil.Process]:
    return psutil.Process(command.process.pid).children(recursive=True)


def losses(command: Command) -> list[tuple[int, int, int, float]]:
    lines = (Path(command.said()["folder"]) / "metrics.jsonl").read_text().splitlines()
    rows = [row for row in map(json.loads, lines) if row["event"] == "step"]
    return sorted((row["round"], row["client"], row["step"], row["loss"]) for row in rows)


def test_a_live_run_is_bit_identical_to_the_virtual_one(begin: Run) -> None:
    """Although packets are lost for good: TCP sends them again."""
    live = begin("--live", link={**LINK, "max_tries": 1})
    assert live.code(120.0) == 0, live.complained()
    virtual = begin("--set", "transport.name=inproc")
    assert virtual.code(120.0) == 0, virtual.complained()
    assert losses(live) == losses(virtual)
    said = live.said()
    assert said["bytes_up"] == virtual.said()["bytes_up"]
    assert said["live"]["congestion"] == "reno"
    rows = said["live"]["links"]
    assert [(row["client"], row["direction"]) for row in rows] == [
        (client, way) for client in range(2) for way in ("up", "down")
    ]
    for row in rows:
        assert row["offered"] == row["forwarded"] + row["dropped"] + row["lost"] + row["pending"]
        assert row["forwarded_bytes"] > said["bytes_up" if row["direction"] == "up" else "bytes_down"] / 3
    assert sum(row["lost"] for row in rows) > 0 == sum(row["resent"] for row in rows)
    folder = Path(said["folder"])
    assert json.loads((folder / "summary.json").read_text())["live"] == said["live"]
    page = (folder / "report.html").read_text()
    assert "The link was also emulated live" in page
    assert "<h2>Live link</h2>" in page
    assert "live" not in virtual.said()
    assert "On the air, live" not in (Path(virtual.said()["folder"]) / "report.html").read_text()


def test_all_clients_share_a_scenarios_cell_live(begin: Run) -> None:
    command = begin("--live", link={"scenario": "lab-wifi"})
    assert command.code(120.0) == 0, command.complained()
    assert all(row["forwarded"] > 10 for row in command.said()["live"]["links"])


@pytest.mark.parametrize("victim", ["testbed.forwarder", "join"], ids=["forwarder", "client"])
def test_a_killed_forwarder_or_client_is_reported_and_leaves_nothing(
    victim: str, begin: Run, tmp_path: Path
) -> None:
    command = begin("--live", **LONG)
    ticks, family = started_at(command.process.pid), learning_family(command, tmp_path)
    [*_, one] = [child for child in family if victim in child.cmdline()]
    os.kill(one.pid, signal.SIGKILL)
    assert command.code(60.0) == 1
    last = command.complained().strip().splitlines()[-1]
    assert last.startswith("Error: ")
    assert "died with signal SIGKILL" in last
    assert spaces_of(command, ticks) == []
    until(lambda: not any(child.is_running() for child in family))


def test_of_two_concurrent_runs_one_dies_and_the_other_continues_until_interrupted(
    begin: Run, tmp_path: Path
) -> None:
    killed = begin("--live", "--out", tmp_path / "killed", **LONG)
    other = begin("--live", "--out", tmp_path / "other", **LONG)
    ticks = started_at(killed.process.pid), started_at(other.process.pid)
    families = learning_family(killed, tmp_path / "killed"), learning_family(other, tmp_path / "other")
    killed.process.kill()
    killed.process.wait()
    until(lambda: spaces_of(killed, ticks[0]) == [])  # by its forwarder, before any other run looks
    until(lambda: not any(child.is_running() and child.status() != "zombie" for child in families[0]))
    (events,) = (tmp_path / "other").glob("*/metrics.jsonl")
    before = events.stat().st_size
    until(lambda: events.stat().st_size > before)
    os.kill(other.process.pid, signal.SIGINT)
    assert other.code(30.0) == 1
    assert "Traceback" not in other.complained()
    assert spaces_of(other, ticks[1]) == []
    until(lambda: not any(child.is_running() for child in families[1]))


def learning_family(command: Command, folder: Path) -> list[psutil.Process]:
    """The processes of a run that has come through a round; three namespaces are theirs."""
    until(lambda: is_learning(folder) or command.process.poll() is not None, 200.0)
    assert command.process.poll() is None, command.complained()
    assert len(spaces_of(command, started_at(command.process.pid))) == 3
    return family_of(command)
