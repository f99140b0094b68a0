"""A soak holds where the product does, and says so where something does not hold."""

import json
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from channel.core.rng import stream
from experiments.soak.findings import Invariant, findings
from experiments.soak.plan import SoakPlan
from experiments.soak.relay import Relay
from experiments.soak.replay import RunOutput
from experiments.soak.soak import MemorySample, SoakRecord, run_folder
from splitfl.core.errors import ConfigError
from tests.command import Start

PLAN = SoakPlan(rounds=3, clients=2, kills=1, deaths=2, seed=0)


def soak(start: Start, folder: Path, **options: str | int) -> dict[str, Any]:
    words = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    output = folder.with_suffix(".said")
    process = start(sys.executable, "-m", "experiments.soak", "--out", folder, *words, output=output)
    assert process.wait(timeout=1100) == 0, output.read_text()
    told = json.loads((folder / "soak.json").read_text())
    assert isinstance(told, dict)
    return told


@pytest.mark.slow
def test_a_run_in_which_everything_breaks_is_the_simulation_of_the_same_events(
    start: Start, tmp_path: Path
) -> None:
    told = soak(start, tmp_path / "soak", rounds=30, clients=5, kills=2, deaths=3, timeout=2)
    assert all(one["holds"] for one in told["findings"])
    assert told["played"]["kills"] >= 1  # one that is due in the last rounds may come too late
    assert told["played"]["deaths"] >= 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rounds", "kills", "deaths"),
    [
        pytest.param(20, 3, 3, id="six"),
        pytest.param(200, 50, 50, id="hundred", marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_processes_killed_at_random_resume_to_the_bits_of_an_uninterrupted_run(
    start: Start, tmp_path: Path, rounds: int, kills: int, deaths: int
) -> None:
    told = soak(
        start,
        tmp_path / "soak",
        rounds=rounds,
        clients=3,
        kills=kills,
        deaths=deaths,
        on_loss="rollback",
        timeout=2,
    )
    named = {one["name"] for one in told["findings"] if one["holds"]}
    assert {"no client missed a round", "the run equals the simulation of the same events"} <= named


def test_deaths_are_drawn_from_the_seed_and_only_of_those_that_are_mortal() -> None:
    plan = SoakPlan(rounds=100, clients=20, kills=10, deaths=30, seed=1)
    assert plan.all_deaths() == plan.all_deaths() != replace(plan, seed=2).all_deaths()
    killed = [death.client for death in plan.all_deaths()]
    assert killed.count(None) == 10
    assert len(plan.mortals) == 6
    assert {client for client in killed if client is not None} <= set(plan.mortals)


def test_a_plan_that_no_run_can_survive_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"on_loss must be continue or rollback, got 'abort'"):
        SoakPlan(rounds=3, clients=2, kills=1, deaths=0, seed=0, on_loss="abort")


def rows() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for at in range(PLAN.rounds):
        for client in range(PLAN.clients):
            found.append({"event": "step", "round": at, "client": client, "loss": 1.0})
            found.append({"event": "transfer", "direction": "up", "payload_bytes": 10})
        found.append({"event": "round", "round": at})
    return found


SUMMARY = {"status": "done", "bytes_up": 60, "bytes_down": 0}
PLAYED = SoakRecord(
    kills=1,
    deaths=2,
    memory=[
        MemorySample(life=1, rounds_done=at, resident_bytes=10**8, files=9, threads=9)
        for at in range(0, 200, 5)
    ],
)


def held(
    folder: Path,
    played: SoakRecord = PLAYED,
    run: RunOutput | None = None,
    simulated: RunOutput | None = None,
) -> set[str]:
    told = RunOutput(rows=list(rows()), summary=SUMMARY)
    found: list[Invariant] = findings(PLAN, folder, played, run or told, simulated or told)
    return {one.name for one in found if not one.holds}


def test_everything_holds_of_a_run_to_which_nothing_happened(tmp_path: Path) -> None:
    assert held(tmp_path) == set()


def test_one_other_loss_is_seen(tmp_path: Path) -> None:
    other = rows()
    other[0]["loss"] = float(np.nextafter(1.0, 2.0))
    simulated = RunOutput(rows=list(other), summary=SUMMARY)
    assert held(tmp_path, simulated=simulated) == {"the run equals the simulation of the same events"}


def test_a_byte_too_many_in_the_ledger_is_seen(tmp_path: Path) -> None:
    run = RunOutput(rows=list(rows()), summary={**SUMMARY, "bytes_up": 61})
    assert held(tmp_path, run=run) == {"the ledger adds up"}


def test_a_step_that_a_client_present_did_not_make_is_seen(tmp_path: Path) -> None:
    told = RunOutput(rows=list(rows()[2:]), summary={**SUMMARY, "bytes_up": 50})
    assert held(tmp_path, run=told, simulated=told) == {"a lost client affects only its own work"}


def test_leftover_files_and_processes_are_detected(tmp_path: Path) -> None:
    partial = run_folder(tmp_path) / "checkpoint" / "client-0" / ".round-3.safetensors.partial"
    partial.parent.mkdir(parents=True)
    partial.touch()
    assert held(tmp_path, replace(PLAYED, left_processes=[1])) == {"no file is left", "no process is left"}


def test_growth_is_seen(tmp_path: Path) -> None:
    growing = [replace(row, resident_bytes=10**8 + 10**5 * row.rounds_done) for row in PLAYED.memory]
    assert held(tmp_path, replace(PLAYED, memory=growing)) == {"memory does not grow"}


def test_a_relay_forwards_bytes_and_breaks_at_a_random_point() -> None:
    with socket.create_server(("127.0.0.1", 0)) as far:
        got: list[bytes] = []

        def listen() -> None:
            came, _ = far.accept()
            with came:
                while data := came.recv(1 << 16):
                    got.append(data)

        listening = threading.Thread(target=listen)
        listening.start()
        sent = bytes(range(256)) * (1 << 12)
        with (
            Relay(lambda: far.getsockname()[1], stream(3, "relay")) as relay,
            socket.create_connection(("127.0.0.1", relay.port)) as near,
        ):
            with pytest.raises(OSError, match=r"reset|[Bb]roken"):
                near.sendall(sent * 64)
            listening.join(10)
        assert relay.cuts == 1
        carried = b"".join(got)
        assert carried == (sent * 64)[: len(carried)]
        assert 0 < len(carried) < 64 * len(sent)
