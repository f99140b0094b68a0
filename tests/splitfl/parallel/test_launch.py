"""What torchrun started must be what the settings say; settings that exclude ranks are refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from splitfl.config import RunConfig, ServerConfig
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation
from splitfl.methods.compatibility import check
from splitfl.methods.parts.method import Turn
from splitfl.parallel.launch import Launch, checked_launch, launch, refuse_restart
from splitfl.parallel.orders import Order, decoded, encoded
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy

RANKS = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
place = toy.place()


@pytest.fixture
def as_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in RANKS.items():
        monkeypatch.setenv(name, value)


def test_torchrun_names_the_rank(as_rank: None) -> None:
    assert launch() == Launch(rank=1, world_size=2, local_rank=0)
    assert checked_launch(ServerConfig(shard="fsdp", ranks=2)) == launch()


def test_without_torchrun_there_are_no_ranks() -> None:
    assert launch() is None
    assert checked_launch(ServerConfig()) is None
    with pytest.raises(
        ConfigError, match=r"'stages' needs 3 processes .* torchrun --nproc-per-node 3 -m exp"
    ):
        checked_launch(ServerConfig(shard="stages", ranks=3))


def test_another_number_of_ranks_is_refused(as_rank: None) -> None:
    with pytest.raises(ConfigError, match=r"server.ranks must be .* WORLD_SIZE 2, got 3"):
        checked_launch(ServerConfig(shard="fsdp", ranks=3))
    with pytest.raises(
        ConfigError, match=r"server.shard must be 'fsdp' or 'stages' or 'tensor' .*got 'none'"
    ):
        checked_launch(ServerConfig())


def test_a_restart_does_not_begin_anew(as_rank: None, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_restart()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    with pytest.raises(ConfigError, match="-m experiments resume RUN"):
        refuse_restart()


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"shard": "data", "ranks": 2}, r"unknown server.shard 'data'; have fsdp, none, stages, tensor"),
        ({"shard": "fsdp"}, r"server.ranks must be at least 2 with server.shard 'fsdp', got 1"),
        ({"ranks": 0}, r"server.ranks must be at least 1"),
        (
            {"shard": "fsdp", "ranks": 2, "collective_timeout_s": 0.0},
            r"collective_timeout_s must be above 0.0",
        ),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        ServerConfig(**settings)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"server": {"ranks": 2, "shard": "none"}}, "server.ranks is read only with server.shard 'fsdp' and"),
    ({"method": {"name": "sfl-v1"}}, "'sfl-v1', which keeps one body per client, got 'fsdp'; have .*sfl-v2"),
    ({"method": {"name": "ushape"}}, "'ushape', which keeps one replica of the body per client"),
    ({"method": {"name": "fedlora"}}, "'fedlora', which has no body on the server"),
    ({"method": {"in_flight": 2}}, "method.in_flight must be 1 with server.shard 'fsdp'"),
    ({"adapter": {"body": {"kind": "dora"}}}, r"adapter.body.kind must be 'lora' with server.shard 'fsdp'"),
    ({"adapter": {"head": {"init": "pissa"}}}, "adapter.head.init must be 'kaiming' or 'orthogonal' with"),
    ({"adapter": {"body": {"bias": "all"}, "head": {"bias": "all"}}}, "adapter.body.bias must be 'none'"),
    ({"federation": {"client_cuts": [1, 2]}}, r"federation.client_cuts must be \[\] with server.shard"),
]


@pytest.mark.parametrize(("tables", "match"), REFUSED)
def test_settings_that_exclude_ranks_are_refused(place: Path, tables: dict[str, Any], match: str) -> None:
    server = {"device": "cpu", "shard": "fsdp", "ranks": 2} | tables.pop("server", {})
    with pytest.raises(ConfigError, match=match):
        Experiment.of(toy.config(place, **tables, server=server))


DIVIDED: list[tuple[dict[str, Any], str]] = [
    ({}, "server.shard must be 'fsdp' or 'stages' for a bert model, got 'tensor': transformers has no"),
    ({"adapter": {"body": {"kind": "loha"}}}, "adapter.body.kind must be 'lora' with server.shard 'tensor'"),
    ({"adapter": {"body": {"dropout": 0.1}, "head": {"dropout": 0.1}}}, "adapter.body.dropout must be 0.0"),
    ({"adapter": {"body": {"bias": "all"}, "head": {"bias": "all"}}}, "adapter.body.bias must be 'none'"),
]


@pytest.mark.parametrize(("tables", "match"), DIVIDED)
def test_settings_that_exclude_divided_modules_are_refused(
    place: Path, tables: dict[str, Any], match: str
) -> None:
    server = {"device": "cpu", "shard": "tensor", "ranks": 2}
    with pytest.raises(ConfigError, match=match):
        Experiment.of(toy.config(place, **tables, server=server))


@pytest.mark.parametrize(("kind", "model_type"), [("seq2seq-lm", "t5"), ("image-classification", "vit")])
def test_other_models_than_those_of_text_are_refused(place: Path, kind: str, model_type: str) -> None:
    config = toy.config(place, server={"device": "cpu", "shard": "stages", "ranks": 2})
    with pytest.raises(ConfigError, match=f"server.shard must be 'none' for {kind}, got 'stages'"):
        check(config, kind, 4, model_type)


def test_an_order_carries_a_message_as_bytes() -> None:
    turn = Turn(client=3, round=1, lap=2, position=9)
    hidden = torch.randn(2, 5, 4, dtype=torch.bfloat16)
    message = Activation(ids_B=torch.tensor([4, 7]), hidden=hidden, labels=torch.tensor([0, 1]))
    order = decoded(encoded(Order.compute(turn, message)))
    assert order.turn == turn
    assert isinstance(order.message, Activation)
    assert torch.equal(order.message.hidden, hidden)
    values = {"a.b": torch.arange(3.0), "scalar": torch.tensor(2)}
    back = decoded(encoded(Order.of_tensors("restore", values))).tensors
    assert all(torch.equal(back[name], value) for name, value in values.items())


class Body(nn.Module):
    """Blocks of given sizes with an output module, as `divided` sees them."""

    def __init__(self, blocks: list[int], top: int) -> None:
        super().__init__()
        self.own_blocks = nn.ModuleList(nn.Linear(size, 1, bias=False) for size in blocks)
        self.top = [("lm_head", nn.Linear(top, 1, bias=False))]
        self.blocks = range(2, 2 + len(blocks))


@pytest.mark.parametrize(
    ("blocks", "top", "count", "lengths"),
    [
        ([2, 2, 2, 2], 1, 2, [2, 2]),
        ([1, 1, 1, 1], 2, 2, [3, 1]),
        ([1, 1, 1], 9, 3, [1, 1, 1]),
        ([9, 1, 1], 1, 3, [1, 1, 1]),
        ([9, 9, 9, 9, 9, 9], 1, 3, [2, 2, 2]),
    ],
)
def test_stages_have_about_the_same_number_of_parameters(
    blocks: list[int], top: int, count: int, lengths: list[int]
) -> None:
    from splitfl.parallel.stages import divided

    stages = divided(Body(blocks, top), count)  # type: ignore[arg-type]
    assert [len(stage) for stage in stages] == lengths
    assert [index for stage in stages for index in stage] == list(range(2, 2 + len(blocks)))


def test_a_config_on_one_device_has_no_ranks() -> None:
    assert not RunConfig().server.is_sharded
    assert RunConfig().server.flops == 5e11
