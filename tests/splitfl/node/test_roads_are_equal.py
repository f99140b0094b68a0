"""The same settings and seed give the same numbers, to the last bit, in one process and over PyTorch RPC."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from experiments.running import run_here
from splitfl.node.build import Site
from tests.splitfl import toy

# Three tries of each packet, so that now and then a message is lost for good, either way.
LOSSY = {
    "mtu_bytes": 1500,
    "max_tries": 3,
    "up": {"rate_bps": 2e7, "delay_s": 0.01, "loss_rate": 0.2},
    "down": {"rate_bps": 5e7, "delay_s": 0.01, "loss_rate": 0.2},
}
IDEAL: dict[str, Any] = {}
CASES = {
    "sfl-v2": ({"name": "sfl-v2"}, IDEAL),
    "sfl-v2, lossy": ({"name": "sfl-v2"}, LOSSY),
    "sfl-v2, three in flight": ({"name": "sfl-v2", "in_flight": 3}, IDEAL),
    "frozen, lossy": ({"name": "frozen"}, LOSSY),
    "frozen, two in flight": ({"name": "frozen", "in_flight": 2}, IDEAL),
    "fedlora": ({"name": "fedlora"}, IDEAL),
    "fedlora, lossy": ({"name": "fedlora"}, LOSSY),
}


class Nobody:
    """Watches a run and says nothing."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        pass

    def measured(self, row: Mapping[str, Any]) -> None:
        pass

    def waiting(self, address: str, missing: list[int]) -> None:
        pass


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model", is_base=True)
    toy.data(folder / "data.tsv")
    return folder


@pytest.fixture
def travelled(place: Path, tmp_path: Path) -> Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]:
    """What a run wrote down, and its summary, without what may differ: real time and memory."""

    def run(road: str, **tables: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        folder = tmp_path / road
        folder.mkdir()
        config = toy.config(place, transport={"name": road}, **tables)
        _, summary = run_here(Site.of(config), lambda: folder, Nobody())
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        kept = [without(row, "wall_s") for row in rows if row["event"] != "memory"]
        assert {path.name for path in folder.iterdir()} >= {"adapter", "checkpoint", "summary.json"}
        final = without(summary["final"], "wall_s")
        ours = without(summary, "wall_s", "transport", "client_peak_bytes", "server_peak_bytes")
        return kept, {**ours, "final": final}

    return run


def without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def assert_equal_folders(one: Path, other: Path) -> None:
    """The adapters and the checkpoints hold the same tensors, to the last bit."""
    for name in ("adapter/adapter_model.safetensors", "checkpoint/state.safetensors"):
        first, second = (safetensors.torch.load_file(folder / name) for folder in (one, other))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    settings = "adapter/adapter_config.json"
    assert json.loads((one / settings).read_text()) == json.loads((other / settings).read_text())


def test_rpc_is_the_same_road(travelled: Any, tmp_path: Path) -> None:
    hard = {"method": {"in_flight": 2}, "link": LOSSY, "federation": {"clients": 2, "rounds": 3}}
    events, summary = travelled("inproc", **hard)
    assert {row["lost"] for row in events if row["event"] == "transfer" and row["direction"] == "up"} == {
        True,
        False,
    }
    assert {row["lost"] for row in events if row["event"] == "transfer" and row["direction"] == "down"} == {
        True,
        False,
    }
    assert travelled("rpc", **hard) == (events, summary)
    assert_equal_folders(tmp_path / "inproc", tmp_path / "rpc")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_rpc_is_the_same_road_for_every_method(case: str, travelled: Any, tmp_path: Path) -> None:
    method, link = CASES[case]
    settings = {"method": method, "link": link, "federation": {"clients": 3, "local_steps": 0}}
    assert travelled("rpc", **settings) == travelled("inproc", **settings)
    assert_equal_folders(tmp_path / "inproc", tmp_path / "rpc")
