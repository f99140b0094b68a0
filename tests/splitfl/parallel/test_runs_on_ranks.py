"""Whole runs of two ranks are those of one device, also where ranks are killed or freeze."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from splitfl.config import TENSOR
from splitfl.controller.dry_run import controller_for
from splitfl.core.checkpoint import restore
from splitfl.runtime.run import run_in_one_process
from splitfl.runtime.screen import Silent
from splitfl.server.run import write_json
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict
from tests.command import Command, Start
from tests.splitfl import toy
from tests.splitfl.parallel.ranks import torchrun

pytestmark = pytest.mark.slow

LONG, WAIT_S = [pytest.mark.long], 200.0
place = toy.place(is_base=True, rows=60)


def settings(place: Path, folder: Path, way: str, rounds: int = 2, **tables: Any) -> Path:
    server = {"device": "cpu", "shard": way, "ranks": 2, **tables.pop("server", {})}
    federation = {"clients": 2, "rounds": rounds, "local_steps": 2, **tables.pop("federation", {})}
    table = toy.table(place, federation=federation, server=server, **tables)
    write_json(folder / "experiment.json", as_dict(from_dict(table)))
    return folder / "experiment.json"


def one_device(file: Path, folder: Path) -> Path:
    """The folder of the same run on one device."""
    table = json.loads(file.read_text())
    table["server"] |= {"shard": "none", "ranks": 1, "collective_timeout_s": 300.0}
    table["transport"] = {"name": "inproc"}
    folder.mkdir()
    experiment = Experiment.of(from_dict(table))
    run_in_one_process(experiment, lambda: folder, Silent(), controller_for=controller_for)
    return folder


def start_run(start: Start, folder: Path, file: Path, *words: str, **env: str) -> Command:
    out = str(folder / "runs")
    return torchrun(start, folder, "-m", "experiments", "run", file, "--out", out, "--json", *words, **env)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The events of a run without what the wall clock and the memory say."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in row.items() if not key.startswith("wall")}
        for row in found
        if row["event"] != "memory"
    ]


def losses(folder: Path) -> list[float]:
    """The losses of all steps."""
    return [row["loss"] for row in rows(folder) if row["event"] == "step"]


def assert_same_run(one: Path, many: Path, *, at_least: int = 1) -> None:
    assert sum(row["event"] == "round" for row in rows(one)) >= at_least
    assert rows(one) == rows(many)
    for part in ("adapter", "checkpoint"):
        files = sorted(path.relative_to(one) for path in (one / part).rglob("*") if path.is_file())
        assert files
        for file in files:
            assert content(one / file) == content(many / file), file


def content(file: Path) -> Any:
    """The bytes of a file; of a checkpoint, whose metadata have no order, what it holds beside the time."""
    if file.parent.name == "adapter":
        return file.read_bytes()
    tensors, metadata = restore(file)
    assert tensors
    for of_time in ("last", "events_bytes"):  # of metrics that are compared as rows, and of seconds
        metadata.pop(of_time, None)
    return {name: (value.dtype, value.tolist()) for name, value in tensors.items()}, metadata


def rank_process(command: Command, rank: int) -> psutil.Process:
    for process in psutil.Process(command.process.pid).children(recursive=True):
        if process.environ().get("RANK") == str(rank):
            return process
    raise AssertionError(f"no rank {rank}")


def await_rounds(folder: Path, count: int, command: Command) -> Path:
    deadline_s = time.monotonic() + WAIT_S
    while time.monotonic() < deadline_s:
        assert command.process.poll() is None, command.complained()
        for found in (folder / "runs").glob("*/metrics.jsonl"):
            if found.read_text().count('"event":"round"') >= count:
                return found.parent
        time.sleep(0.02)
    raise AssertionError(command.complained())


@pytest.mark.parametrize(
    ("way", "method", "tables"),
    [
        ("fsdp", "sfl-v2", {}),
        ("stages", "sfl-v2", {"transport": {"name": "grpc", "timeout_s": 20.0}}),
        pytest.param("stages", "sfl-v2", {"transport": {"name": "rpc", "timeout_s": 20.0}}, marks=LONG),
        pytest.param("stages", "mu-splitfed", {}, marks=LONG),
        pytest.param("fsdp", "mu-splitfed", {}, marks=LONG),
        pytest.param("stages", "hosl", {}, marks=LONG),
        pytest.param("fsdp", "hybrid", {}, marks=LONG),
        pytest.param("stages", "cse-fsl", {}, marks=LONG),
        pytest.param("fsdp", "heron", {}, marks=LONG),
        pytest.param("stages", "frozen", {}, marks=LONG),
        pytest.param("fsdp", "sfl-v2", {"federation": {"aggregator": "fedex"}}, marks=LONG),
    ],
)
def test_a_run_on_two_ranks_is_that_of_one_device(
    place: Path, start: Start, tmp_path: Path, way: str, method: str, tables: Any
) -> None:
    file = settings(place, tmp_path, way, method={"name": method}, **tables)
    command = start_run(start, tmp_path, file)
    one = one_device(file, tmp_path / "one")
    assert command.code(WAIT_S) == 0, command.complained()
    (many,) = (tmp_path / "runs").iterdir()
    assert_same_run(one, many, at_least=2)
    if tables.get("transport", {}).get("name") == "grpc":
        measured = json.loads(command.output.read_text())
        assert measured["server_peak_bytes"] > 0


def test_after_killed_ranks_the_run_continues_either_way_with_the_same_bits(
    place: Path, start: Start, tmp_path: Path
) -> None:
    file = settings(place, tmp_path, "fsdp", rounds=16, eval={"every": 16})
    killed = start_run(start, tmp_path, file)
    folder = await_rounds(tmp_path, 3, killed)
    rank_process(killed, 1).kill()
    one = one_device(file, tmp_path / "one")
    assert killed.code(WAIT_S) != 0
    assert len(list((tmp_path / "runs").iterdir())) == 1, "a restart began a new run"
    table = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", table | {"server": table["server"] | {"shard": "stages"}})
    resumed = torchrun(start, tmp_path, "-m", "experiments", "resume", folder, restarts=1)
    await_rounds(tmp_path, 6, resumed)
    os.kill(rank_process(resumed, 0).pid, signal.SIGKILL)
    assert resumed.code(WAIT_S) == 0, resumed.complained()
    assert_same_run(one, folder, at_least=16)


def test_after_a_killed_rank_a_tensor_parallel_run_continues_with_the_same_bits(
    start: Start, tmp_path: Path
) -> None:
    toy.model(tmp_path / "model", "llama", is_base=True)
    toy.data(tmp_path / "data.tsv", 60)
    file = settings(tmp_path, tmp_path, TENSOR, rounds=8, eval={"every": 8})
    unharmed, harmed = folders = tmp_path / "unharmed", tmp_path / "harmed"
    for folder in folders:
        folder.mkdir()
    killed = start_run(start, harmed, file)
    folder = await_rounds(harmed, 3, killed)
    rank_process(killed, 1).kill()
    assert killed.code(WAIT_S) != 0
    resumed = torchrun(start, harmed, "-m", "experiments", "resume", folder)
    assert resumed.code(WAIT_S) == 0, resumed.complained()
    whole = start_run(start, unharmed, file)
    assert whole.code(WAIT_S) == 0, whole.complained()
    (expected,) = (unharmed / "runs").iterdir()
    assert_same_run(expected, folder, at_least=8)
    one = one_device(file, tmp_path / "one")
    assert losses(one) == pytest.approx(losses(folder), abs=1e-5)


def test_a_frozen_rank_ends_the_run_within_the_timeout(place: Path, start: Start, tmp_path: Path) -> None:
    file = settings(place, tmp_path, "stages", rounds=500, server={"collective_timeout_s": 3.0})
    command = start_run(start, tmp_path, file)
    folder = await_rounds(tmp_path, 2, command)
    frozen = rank_process(command, 1)
    frozen.send_signal(signal.SIGSTOP)
    began_s = time.monotonic()
    try:
        while not (folder / "summary.json").exists():
            assert time.monotonic() - began_s < 30, command.complained()
            time.sleep(0.05)
    finally:
        frozen.send_signal(signal.SIGCONT)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert "took no part for 3 s (server.collective_timeout_s)" in summary["reason"]
    assert command.code(WAIT_S) != 0


def test_another_number_of_processes_is_refused_in_one_sentence(
    place: Path, start: Start, tmp_path: Path
) -> None:
    file = settings(place, tmp_path, "fsdp", server={"ranks": 3})
    command = start_run(start, tmp_path, file)
    assert command.code(WAIT_S) != 0
    assert "Error: server.ranks must be the number of processes" in command.complained()
    assert not list((tmp_path / "runs").glob("*"))
