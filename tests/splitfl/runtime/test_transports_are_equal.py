"""The same settings and seed give the same numbers, to the last bit, by every road there is."""

import json
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from experiments.local_clients import run_here
from splitfl.controller.budget import resolved
from splitfl.runtime.screen import Silent
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from tests.command import Start, splitfl
from tests.splitfl import toy
from tests.splitfl.transport.broker_process import BrokerProcess

# torch itself compiles what forward mode needs the first time it is used, in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

CODED = {"adapter_up": "uniform:block=16+huffman", "adapter_down": "int8"}
# Three tries of each packet, so that now and then a message is lost for good, either way.
LOSSY = {
    "mtu_bytes": 1500,
    "max_tries": 3,
    "up": {"rate_bps": 2e7, "delay_s": 0.01, "loss_rate": 0.2},
    "down": {"rate_bps": 5e7, "delay_s": 0.01, "loss_rate": 0.2},
}
IDEAL: dict[str, Any] = {}
DROPOUT = {side: {"rank": 2, "dropout": 0.1} for side in ("head", "body")}
CASES = {
    "sfl-v2": ({"name": "sfl-v2"}, LOSSY),
    "sfl-v2, three in flight": ({"name": "sfl-v2", "in_flight": 3}, IDEAL),
    "sfl-v2, batches of two clients": ({"name": "sfl-v2", "server_batch": 2}, LOSSY),
    "frozen, batches of two clients": ({"name": "frozen", "server_batch": 2}, LOSSY),
    "frozen, two in flight": ({"name": "frozen", "in_flight": 2}, LOSSY),
    "hybrid": ({"name": "hybrid"}, LOSSY),
    "hybrid, two in flight": ({"name": "hybrid", "in_flight": 2, "perturbations": 40}, LOSSY),
    "hosl": ({"name": "hosl"}, LOSSY),
    "decomfl": ({"name": "decomfl"}, LOSSY),
    "fedkseed": ({"name": "fedkseed", "pool": 64}, LOSSY),
    "spry": ({"name": "spry"}, LOSSY),
    "fedlora": ({"name": "fedlora"}, LOSSY),
    "diloco": ({"name": "diloco"}, LOSSY),
    "dp": ({"name": "dp"}, LOSSY),
    "sfl-v1, two in flight": ({"name": "sfl-v1", "in_flight": 2}, LOSSY),
    "ushape": ({"name": "ushape"}, LOSSY),
    "cse-fsl": ({"name": "cse-fsl", "upload_interval": 2, "in_flight": 2}, LOSSY),
    "fsl-sage": ({"name": "fsl-sage", "auxiliary_blocks": 1, "in_flight": 2}, LOSSY),
}
TAILS = {"ushape": 1}
COUNTED = {"diloco": 3, "dp": 3}
"""Local steps of methods that refuse a pass over the own data."""
SHOWN = ("hybrid, two in flight", "sfl-v2, batches of two clients")


place = toy.place(is_base=True)


Told = tuple[list[dict[str, Any]], dict[str, Any]]


@pytest.fixture
def travelled(place: Path, tmp_path: Path, start: Start) -> Callable[..., Told]:
    """Runs the toy experiment by one road; what it wrote down, and its summary.

    PyTorch RPC carries one run a process, so that road begins at the command line.
    """

    def run(road: str, port: int = 0, **tables: Any) -> Told:
        folder, settings = tmp_path / road, toy.table(place, transport={"name": road, "port": port}, **tables)
        folder.mkdir()
        if road == "inproc":
            run_here(Experiment.of(resolved(from_dict(settings))), lambda: folder, Silent())
            return kept(folder)
        path = tmp_path / "toy.json"
        path.write_text(json.dumps(settings))
        command = splitfl(start, tmp_path, "run", path, "--out", folder, "--json")
        assert command.code() == 0, command.complained()
        Path(command.said()["folder"]).rename(folder / "run")
        return kept(folder / "run")

    return run


def kept(folder: Path) -> Told:
    """The events and the summary of a run, without what may differ: real time and memory."""
    summary = json.loads((folder / "summary.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    final = without(summary["final"], "wall_s")
    ours = without(summary, "wall_s", "transport", "client_peak_bytes", "server_peak_bytes", "codecs")
    return [without(row, "wall_s") for row in rows if row["event"] != "memory"], {**ours, "final": final}


def without(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in names}


def assert_equal_folders(one: Path, other: Path) -> None:
    """The adapters and the checkpoints hold the same tensors, to the last bit."""
    (last,) = sorted((one / "checkpoint").glob("round-*.safetensors"))[-1:]
    for name in ("adapter/adapter_model.safetensors", f"checkpoint/{last.name}"):
        first, second = (safetensors.torch.load_file(folder / name) for folder in (one, other))
        assert first.keys() == second.keys()
        assert all(torch.equal(first[key], second[key]) for key in first)
    assert adapter_settings(one) == adapter_settings(other)


def adapter_settings(folder: Path) -> dict[str, Any]:
    """What peft says of the adapter; it keeps the targets as a set and writes them in any order."""
    settings: dict[str, Any] = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    return {**settings, "target_modules": sorted(settings["target_modules"])}


@pytest.mark.slow
def test_rpc_gives_the_same_bits(travelled: Any, tmp_path: Path) -> None:
    hard = {
        "method": {"in_flight": 2},
        "adapter": DROPOUT,
        "codec": CODED,
        "link": LOSSY,
        "federation": {"clients": 2, "rounds": 3},
    }
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
    assert_equal_folders(tmp_path / "inproc", tmp_path / "rpc" / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("road", "method"),
    [
        ("grpc", {"in_flight": 2}),
        ("grpc", {"server_batch": 2}),
        ("mqtt", {"in_flight": 2}),
        pytest.param("mqtt", {"server_batch": 2}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_the_other_transports_give_the_same_bits(
    road: str, method: dict[str, int], travelled: Any, tmp_path: Path
) -> None:
    hard: dict[str, Any] = {
        "method": method,
        "adapter": DROPOUT,
        "codec": {**CODED, "activation": "delta+int8"},
        "link": LOSSY,
        "federation": {"clients": 2, "rounds": 3},
    }
    told = travelled("inproc", **hard)
    with ExitStack() as stack:
        if road == "mqtt":
            broker = BrokerProcess(tmp_path)
            stack.callback(broker.stop)
            hard["port"] = broker.port
        assert travelled(road, **hard) == told
    assert_equal_folders(tmp_path / "inproc", tmp_path / road / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[] if case in SHOWN else pytest.mark.long) for case in CASES]
)
def test_rpc_gives_the_same_bits_for_every_method(case: str, travelled: Any, tmp_path: Path) -> None:
    method, link = CASES[case]
    averaged = {} if method["name"] == "frozen" else {"aggregator": "mean"}
    # Where a round is a pass over the own data, one client has more steps than another.
    settings = {
        "method": method,
        "link": link,
        "federation": {"clients": 3, "local_steps": COUNTED.get(method["name"], 0), **averaged},
        "model": {"attention": "eager"},  # forward mode has no other
        **({"partition": {"tail_blocks": TAILS[method["name"]]}} if method["name"] in TAILS else {}),
    }
    assert travelled("rpc", **settings) == travelled("inproc", **settings)
    assert_equal_folders(tmp_path / "inproc", tmp_path / "rpc" / "run")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("sfl-v2", {"activation": "int8", "gradient": "bf16"}),
        ("sfl-v2", {"activation": "delta+uniform:step=0.75+huffman", "gradient": "int8"}),
        pytest.param("hybrid", {"activation": "bf16", "gradient": "int4"}, marks=pytest.mark.long),
        pytest.param(
            "ushape", dict.fromkeys(("activation", "output", "gradient"), "int8"), marks=pytest.mark.long
        ),
    ],
)
def test_rpc_gives_the_same_bits_for_rounded_rows(
    name: str, codec: dict[str, str], travelled: Any, tmp_path: Path
) -> None:
    tail = {"partition": {"tail_blocks": TAILS[name]}} if name in TAILS else {}
    settings = {"method": {"name": name}, "link": LOSSY, "codec": codec, **tail}
    events, summary = travelled("inproc", **settings)
    assert travelled("rpc", **settings) == (events, summary)
    assert_equal_folders(tmp_path / "inproc", tmp_path / "rpc" / "run")


@pytest.mark.slow
def test_rpc_gives_the_same_bits_with_a_controller(travelled: Any, tmp_path: Path) -> None:
    auto = {
        "budget": "bytes",
        "limit": 1.2e4,
        "every": 1,
        "methods": ["hybrid", "cse-fsl", "frozen"],
        "head_lrs": [0.1, 1e-3, 1e-3],
        "cuts": [1, 2],
        "codecs": ["none", "int8"],
    }
    sides = {"head": {"rank": 4}, "body": {"rank": 4}}
    settings = {"link": LOSSY, "federation": {"clients": 3, "rounds": 4}, "auto": auto, "adapter": sides}
    events, summary = travelled("inproc", **settings)
    plans = {(row["method"], row["codec"]) for row in events if row["event"] == "plan"}
    assert {method for method, _ in plans} >= {"hybrid", "cse-fsl"}, plans
    assert travelled("rpc", **settings) == (events, summary)
    assert_equal_folders(tmp_path / "inproc", tmp_path / "rpc" / "run")


@pytest.mark.slow
def test_rpc_gives_the_same_bits_where_clients_share_a_cell_and_lose_tokens(
    travelled: Any, tmp_path: Path
) -> None:
    (tmp_path / "far.toml").write_text(
        '[place]\nenvironment = "constant"\nloss_db = 120.0\nusers = 3\n'
        '[link]\nharq = "none"\nmax_tries = 1\n'
    )
    settings = {
        "link": {"scenario": str(tmp_path / "far.toml"), "mtu_bytes": 256},
        "erasure": {"activation": "mask", "gradient": "rescale"},
        "federation": {"clients": 3, "local_steps": 0},
        "method": {"in_flight": 2},
    }
    events, summary = travelled("inproc", **settings)
    assert sum(row["lost_packets"] for row in events if row["event"] == "transfer") > 0
    assert travelled("rpc", **settings) == (events, summary)
    adapters = [tmp_path / road / "adapter/adapter_model.safetensors" for road in ("inproc", "rpc/run")]
    first, second = (safetensors.torch.load_file(path) for path in adapters)
    assert all(torch.equal(first[name], second[name]) for name in first | second)


@pytest.mark.slow
@pytest.mark.parametrize(
    "schedule",
    [
        {"schedule": "buffered", "buffer": 2, "aggregator": "mean"},
        pytest.param({"schedule": "anarchic", "pause_s": 0.05, "aggregator": "mean"}, marks=pytest.mark.long),
        pytest.param({"schedule": "deadline", "deadline_s": 0.3}, marks=pytest.mark.long),
    ],
    ids=lambda one: str(one["schedule"]),
)
def test_rpc_gives_the_same_bits_with_every_schedule(schedule: Any, travelled: Any, tmp_path: Path) -> None:
    unequal = {"clients": 3, "rounds": 3, "client_flops": [1e10, 1e9, 2e8], **schedule}
    settings = {"link": LOSSY, "federation": unequal}
    assert travelled("rpc", **settings) == travelled("inproc", **settings)
    adapters = [tmp_path / road / "adapter/adapter_model.safetensors" for road in ("inproc", "rpc/run")]
    first, second = (safetensors.torch.load_file(path) for path in adapters)
    assert all(torch.equal(first[name], second[name]) for name in first | second)
