"""A codec of another package, whose rows have as many bytes as their numbers ask for."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from channel.core.link import DIRECTIONS
from splitfl.config import AnalogConfig, CodecConfig, ErasureConfig
from splitfl.controller.budget import resolved
from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import Activation, Done, Gradient, Plan
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.setup.codecs import check_codecs, describe_codecs
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from splitfl.wire import decode, encode
from splitfl.wire.codecs import CODECS
from splitfl.wire.frame import Frame
from splitfl.wire.rows import Coded, decode_rows
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.installed import installed, package
from tests.splitfl.wire.test_frames import HERE
from tests.splitfl.wire.test_rounded_frames import data_bytes

PEAKS = """
import torch
from splitfl.core.errors import WireError
from splitfl.wire.codecs import Codec


def encode(rows):
    is_kept = rows.abs() >= 0.5 * rows.abs().amax(-1, keepdim=True)
    index = is_kept.nonzero()[:, -1].int()
    return {"codes": rows[is_kept].float(), "index": index, "count": is_kept.sum(-1).int()}


def leading(parts, width):
    if not parts["count"].sum() == len(parts["codes"]) == len(parts["index"]):
        raise WireError("counts, numbers and places differ")
    return parts["count"].shape


def decode(parts, width, dtype):
    count = parts["count"].flatten().long()
    rows = torch.zeros(len(count), width, dtype=dtype)
    row = torch.arange(len(count)).repeat_interleave(count)
    rows[row, parts["index"].long()] = parts["codes"].to(dtype)
    return rows.reshape(*parts["count"].shape, width)


PLUGIN = Codec(
    about="numbers of at least half a row's peak",
    parts=("codes", "index", "count"),
    encode=encode,
    leading=leading,
    decode=decode,
    unit_bytes=None,
)
"""
ONE = {"federation": {"clients": 2, "rounds": 1, "local_steps": 2}}
BOTH = {"codec": {"activation": "peaks", "gradient": "peaks"}}


@pytest.fixture(scope="module")
def site_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package(tmp_path_factory.mktemp("site"), "splitfl.codecs", "peaks", PEAKS)


@pytest.fixture
def peaks(site_packages: Path) -> Iterator[None]:
    with installed(site_packages, CODECS):
        yield


place = toy.place(is_base=True)


@pytest.mark.usefixtures("peaks")
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 5), (0, 4)])
def test_rows_arrive_as_the_codec_restores_them(shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    is_kept = rows.abs() >= 0.5 * rows.abs().amax(-1, keepdim=True)
    raw = encode(Gradient(ids_B=torch.arange(2), grad=rows), HERE, CodecConfig(gradient="peaks"))
    got, _ = decode(raw)
    assert isinstance(got, Gradient)
    assert torch.equal(got.grad, rows * is_kept)
    assert Frame(raw).codec == "peaks"
    assert data_bytes(raw) == 2 * 8 + 8 * int(is_kept.sum()) + 4 * rows.shape[:-1].numel()


@pytest.mark.slow
@pytest.mark.usefixtures("peaks")
def test_a_run_is_charged_for_every_byte_that_its_rows_took(place: Path, tmp_path: Path) -> None:
    run = play(Experiment.of(toy.config(place, **BOTH, **ONE)), tmp_path)
    for client, node in enumerate(run.nodes):
        for direction, frames in zip(DIRECTIONS, (node.sent, node.received), strict=True):
            assert run.ledger.traffic[0, client, direction].payload_bytes == sum(map(len, frames))
    sent = [raw for node in run.nodes for raw in node.sent if Frame(raw).codec == "peaks"]
    assert len(sent) == 4
    for node in run.nodes:
        raw, message = next((raw, decode(raw)[0]) for raw in node.sent if Frame(raw).codec == "peaks")
        assert isinstance(message, Activation)
        assert message.hidden is not None
        others = [message.ids_B, message.labels, *message.context.values()]
        kept, rows = int((message.hidden != 0).sum()), len(message.hidden)
        assert kept > rows
        assert data_bytes(raw) == sum(one.nbytes for one in others if one is not None) + 8 * kept + 4 * rows


@pytest.mark.usefixtures("peaks")
def test_rows_of_no_fixed_size_are_refused_with_erasure_and_a_controller(place: Path) -> None:
    wanted = r"erasure.gradient must be 'reliable' with codec.gradient 'peaks', .* got 'zero'"
    with pytest.raises(ConfigError, match=wanted):
        Experiment.of(toy.config(place, **BOTH, erasure={"gradient": "zero"}))
    with pytest.raises(ConfigError, match=r"codec.activation 'peaks' has a size that depends"):
        resolved(toy.config(place, **BOTH, **ONE, auto={"budget": "seconds", "limit": 1e6, "ranks": [1]}))


@pytest.mark.usefixtures("peaks")
def test_a_client_that_uses_it_where_rows_may_be_lost_is_refused() -> None:
    policies = ErasurePolicies(
        0, ErasureConfig(gradient="zero"), AnalogConfig(), lambda _: None, mtu_bytes=1500, snr_db={}
    )
    message = Gradient(ids_B=torch.arange(1), grad=torch.ones(1, 2))
    with pytest.raises(WireError, match="rows of codec 'peaks' have no fixed number of bytes"):
        policies.load(message, 100, "peaks", is_up=True)


@pytest.mark.usefixtures("peaks")
def test_a_report_has_the_description_of_the_codec() -> None:
    assert describe_codecs(from_dict(BOTH)) == (
        "Messages were encoded: peaks (numbers of at least half a row's peak) for the activation, "
        "peaks for the gradient."
    )


@pytest.mark.usefixtures("peaks")
@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"index": [0, 0], "count": [1, 2]}, "peaks: counts, numbers and places differ"),
        (
            {"index": [0], "count": [1]},
            "peaks: decoded rows must take at most 4000 bytes, got 4096",
        ),
        ({"count": [2]}, "peaks: rows lack the parts index"),
        ({"index": [-2000, 0], "count": [1, 1]}, "peaks: rows cannot be decoded"),
    ],
)
def test_damaged_rows_are_refused_by_its_name(parts: dict[str, list[int]], sentence: str) -> None:
    numbers = parts.get("index", [0, 0])
    tensors = {name: torch.tensor(values, dtype=torch.int32) for name, values in parts.items()}
    coded = Coded(
        codec="peaks", dtype="float32", width=1024, parts={"codes": torch.ones(len(numbers)), **tensors}
    )
    with pytest.raises(WireError, match=sentence):
        decode_rows(coded, 4000 if len(numbers) == 1 else 1 << 20)


@pytest.mark.usefixtures("peaks")
def test_a_plan_names_it() -> None:
    plan = Plan(method="sfl-v2", cut=1, rank=2, codec="peaks")
    assert decode(encode(Done(plan=plan), HERE))[0] == Done(plan=plan)
    assert CodecConfig.at_cut(plan.codec).gradient == "peaks"


def test_where_it_is_not_installed_it_is_refused_by_name(site_packages: Path) -> None:
    with installed(site_packages, CODECS):
        rows = torch.ones(1, 2)
        raw = encode(Gradient(ids_B=torch.arange(1), grad=rows), HERE, CodecConfig(gradient="peaks"))
    with pytest.raises(
        ConfigError,
        match=r"unknown codec.activation 'peaks'; have ans, bf16, delta, huffman, int4, int8, lowrank",
    ):
        from_dict(BOTH)
    with pytest.raises(WireError, match="unknown codec 'peaks'; have none, bf16, int8, int4"):
        decode(raw)
    with pytest.raises(ConfigError, match=r"unknown codec.activation 'peaks'"):
        CodecConfig.at_cut("peaks")


def test_one_that_cannot_be_loaded_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = package(tmp_path, "splitfl.codecs", "odd", "PLUGIN = 7\n")
    with (
        installed(folder, CODECS),
        pytest.raises(
            ConfigError, match=r"'odd' of foreign_odd .* must be a CodecStage, got an object of type int"
        ),
    ):
        check_codecs(from_dict({"codec": {"output": "odd"}}), width=None)
