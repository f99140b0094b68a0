"""A run whose clients are computed on a Ray cluster of two nodes on this machine."""

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

from splitfl.server.run import write_json
from tests.command import Command, Start, splitfl
from tests.splitfl import toy
from tests.splitfl.cluster.ray_nodes import ENVIRONMENT, head, ray, short_folder
from tests.testbed.waiting import is_learning, until

__all__ = ["head", "short_folder"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]
pytest.importorskip("ray", reason="the package ray is not installed (extra ray)")

CLIENTS = 200


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    """200 clients, of which 20 take part in a round."""
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv", rows=2 * CLIENTS)
    table = toy.table(
        tmp_path,
        federation={"clients": CLIENTS, "rounds": 6, "local_steps": 2, "partition": "iid"},
        fault_tolerance={"clients_per_round": 20, "checkpoint_every": 0},
    )
    write_json(tmp_path / "experiment.json", table)
    return tmp_path / "experiment.json"


def start_run(start: Start, folder: Path, experiment: Path, *words: str) -> Command:
    out = str(folder / "runs")
    return splitfl(start, folder, "run", experiment, "--out", out, "--json", *words, **ENVIRONMENT)


def result(command: Command) -> tuple[list[dict[str, Any]], dict[str, torch.Tensor]]:
    """The events without wall times and memory, and the exported adapter."""
    assert command.code(timeout_s=400) == 0, command.complained()
    folder = Path(command.said()["folder"])
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    events = [
        {key: value for key, value in row.items() if not key.startswith("wall")}
        for row in rows
        if row["event"] != "memory"
    ]
    return events, load_file(folder / "adapter" / "adapter_model.safetensors")


def actors(node: psutil.Process) -> list[psutil.Process]:
    """The processes of a node that compute clients."""
    return [one for one in node.children(recursive=True) if "ClientActor" in " ".join(one.cmdline())]


@pytest.mark.timeout(900)
def test_200_clients_on_two_nodes_have_the_bits_of_one_process_if_one_of_the_actors_is_killed(
    experiment: Path, start: Start, head: str, tmp_path: Path
) -> None:
    node = ray(start, tmp_path / "node.txt", "--address", head, "--node-name", "second")
    there = start_run(start, tmp_path, experiment, "--on", f"ray:{head}")
    until(lambda: is_learning(tmp_path / "runs") or there.process.poll() is not None, 240)
    (killed,) = actors(node)
    killed.kill()
    events, adapter = result(there)
    expected, expected_adapter = result(start_run(start, tmp_path, experiment))
    assert events == expected
    assert {row["client"] for row in events if row["event"] == "step"} <= set(range(CLIENTS))
    assert adapter.keys() == expected_adapter.keys()
    for name, value in adapter.items():
        assert torch.equal(value, expected_adapter[name]), name
