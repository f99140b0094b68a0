"""A frame whose rows were rounded says so itself; what does not fit together is a WireError."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitfl.config import CodecConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import Activation, Gradient, Message, Output
from splitfl.wire import Envelope, decode, encode
from splitfl.wire.frame import Frame
from splitfl.wire.rows import decode_rows, encode_rows
from tests.splitfl.wire.messages import ANY, ENVELOPES
from tests.splitfl.wire.test_frames import ANYTHING, FINE, HERE, IDS, decode_or_refuse, frame, header, plain

CODECS = ["none", "bf16", "int8", "int4", "uniform:step=0.75:block=16", "uniform+huffman", "int4+huffman"]


def rounding(codec: str) -> CodecConfig:
    return CodecConfig(activation=codec, output=codec, gradient=codec)


def data_bytes(raw: bytes) -> int:
    """What the tensors of a frame take."""
    return len(raw) - 8 - int.from_bytes(raw[:8], "little")


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shape", [(5, 32), (2, 3, 7), (2, 3, 4, 5), (3,), (0, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_arrive_rounded_and_all_else_as_it_was(
    codec: str, shape: tuple[int, ...], dtype: torch.dtype
) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = rows if codec == "none" else decode_rows(encode_rows(rows, codec), 1 << 40)
    ids, labels, mask = torch.arange(3), torch.zeros(3), {"mask": torch.ones(3, 2, dtype=torch.bool)}
    for message, rounded in (
        (
            Activation(ids_B=ids, hidden=rows, context=mask, labels=labels),
            Activation(ids_B=ids, hidden=expected, context=mask, labels=labels),
        ),
        (Output(ids_B=ids, hidden=rows), Output(ids_B=ids, hidden=expected)),
        (Gradient(ids_B=ids, grad=rows, loss=0.5), Gradient(ids_B=ids, grad=expected, loss=0.5)),
    ):
        raw = encode(message, HERE, rounding(codec))
        got, envelope = decode(raw)
        assert (plain(got), envelope) == (plain(rounded), HERE)
        assert Frame(raw).codec == codec


@given(ANY, ENVELOPES)
def test_a_frame_without_codec_and_rows_is_unchanged(message: Message, envelope: Envelope) -> None:
    raw = encode(message, envelope)
    assert encode(message, envelope, rounding("none")) == raw
    if not isinstance(message, Activation | Output | Gradient):
        assert encode(message, envelope, rounding("int8")) == raw


def test_each_kind_has_its_own_codec() -> None:
    ids, rows = torch.arange(2), torch.ones(2, 4)
    codec = CodecConfig(activation="int8", output="int4", gradient="bf16")
    raws = [
        encode(message, HERE, codec)
        for message in (
            Activation(ids_B=ids, hidden=rows),
            Activation(ids_B=ids, hidden=None),
            Output(ids_B=ids, hidden=rows),
            Gradient(ids_B=ids, grad=rows),
        )
    ]
    assert [Frame(raw).codec for raw in raws] == ["int8", "none", "int4", "bf16"]


@pytest.mark.parametrize("width", [32, 33])
def test_rounded_rows_take_the_bytes_of_the_formula(width: int) -> None:
    count, message = 17, Gradient(ids_B=torch.arange(4), grad=torch.randn(17, width))
    wanted = {
        "none": 4 * count * width,
        "bf16": 2 * count * width,
        "int8": count * (width + 4),
        "int4": count * (-(-width // 2) + 4),
    }
    for codec, size in wanted.items():
        assert data_bytes(encode(message, HERE, rounding(codec))) == size + 8 * 4


ROUNDED = encode(Gradient(ids_B=torch.arange(1), grad=torch.ones(3, 5)), HERE, rounding("int4"))


@settings(max_examples=200)
@given(st.integers(0, 8 * len(ROUNDED) - 1))
def test_a_flipped_bit_in_rounded_rows_is_a_frame_or_a_wire_error(bit: int) -> None:
    damaged = bytearray(ROUNDED)
    damaged[bit // 8] ^= 1 << bit % 8
    decode_or_refuse(bytes(damaged))


CODES = {"dtype": "I8", "shape": [1, 2], "data_offsets": [8, 10]}
BRAIN = {"dtype": "BF16", "shape": [1, 1], "data_offsets": [8, 10]}
SCALE = {"dtype": "F32", "shape": [1], "data_offsets": [10, 14]}
GOOD = {**IDS, "grad": CODES, "grad.scale": SCALE}
DATA = FINE + b"\1\2" + b"\0\0\x80\x3f"


def test_a_frame_of_codes_may_be_written_by_hand() -> None:
    got, _ = decode(frame(header("Gradient", codec=["int8", "float32", 2]), GOOD, DATA))
    assert isinstance(got, Gradient)
    assert got.grad.tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize(
    ("kind", "codec", "tensors", "sentence"),
    [
        ("Gradient", ["int3", "float32", 2], GOOD, "unknown codec 'int3'"),
        ("Gradient", ["none", "float32", 2], GOOD, "unknown codec 'none'"),
        ("Gradient", ["int8", "complex64", 2], GOOD, "the type of rows must be one of"),
        ("Gradient", ["int8", "float32", 3], GOOD, "int8: codes of rows of 3 numbers"),
        ("Gradient", ["int8", "float32", -2], GOOD, "int8: a row must have at least 1 numbers, got -2"),
        ("Gradient", ["int8", "float32", 2**62], GOOD, "int8: codes of rows of 4611686018427387904 numbers"),
        ("Gradient", ["int8", "float32", 2**70], GOOD, "no readable header"),
        ("Gradient", ["int8", "float32", 2.0], GOOD, "damaged"),
        ("Gradient", ["int4", "float32", 4], GOOD, "int4: codes must be of type torch.uint8, got torch.int8"),
        ("Gradient", ["int8", "float32"], GOOD, "damaged"),
        ("Gradient", "int8", GOOD, "damaged"),
        ("Gradient", [], GOOD, "no envelope"),
        ("Gradient", None, GOOD, "no envelope"),
        ("Gradient", [None, "float32", 2], GOOD, "damaged"),
        ("Gradient", [["int8"], "float32", 2], GOOD, "damaged"),
        (
            "Gradient",
            ["int8", "float32", 2],
            {**IDS, "grad": CODES, "more": SCALE},
            "int8: rows lack the parts scale",
        ),
        (
            "Gradient",
            ["int8", "float32", 2],
            {**IDS, "hidden": CODES, "grad.scale": SCALE},
            "lack the parts codes",
        ),
        ("Output", ["int8", "float32", 2], GOOD, "lack the parts codes, scale"),
        ("Adapter", ["int8", "float32", 2], GOOD, "kind Adapter has no rows that a codec could encode"),
        ("Gossip", ["int8", "float32", 2], GOOD, "kind Gossip has no rows"),
        ("Gradient", ["int8", "float32", 2], {**GOOD, "grad.scale": {**SCALE, "shape": [1, 1]}}, "scales"),
        ("Gradient", ["bf16", "float32", 1], {**GOOD, "grad": BRAIN}, r"unknown tensors \['grad.scale'\]"),
    ],
)
def test_codes_that_do_not_fit_are_refused(kind: str, codec: Any, tensors: Any, sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        decode(frame(header(kind, codec=codec), tensors, DATA))


@settings(max_examples=150)
@given(ANYTHING | st.tuples(st.sampled_from(CODECS), st.sampled_from(["float32", "int8"]), st.integers()))
def test_a_codec_of_anything_is_a_frame_or_a_wire_error(codec: Any) -> None:
    decode_or_refuse(frame(header("Gradient", codec=codec), GOOD, DATA))


def test_few_bytes_do_not_become_more_than_a_frame_may_have() -> None:
    small = encode(Gradient(ids_B=torch.arange(1), grad=torch.ones(64, 64)), HERE, rounding("int4"))
    assert len(small) < 4000
    with pytest.raises(WireError, match="int4: decoded rows must take at most 4000 bytes, got 16384"):
        decode(small, max_bytes=4000)
