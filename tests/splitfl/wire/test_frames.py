"""What is encoded comes out again; what is not a frame is a WireError and nothing else."""

import dataclasses
import json
import sys
import tracemalloc
import typing
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.core.messages import LOST, Activation, Adapter, Gradient, Lost, Message
from splitfl.wire import Envelope, Refusal, decode, encode
from tests.splitfl.wire.messages import ANY, ENVELOPES, KINDS

HERE = Envelope(client=1, round=2, lap=3, flops=4.5)
SAMPLE = encode(
    Activation(
        ids_B=torch.arange(3),
        hidden=torch.ones(4, 2, dtype=torch.bfloat16),
        context={"mask": torch.tensor([[True, False]])},
        labels=torch.tensor([0, 1, 1]),
    ),
    HERE,
)


def plain(value: Any) -> Any:
    """The same without tensors, so that two of them may be compared; bits count, not values."""
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape), value.contiguous().view(-1).view(torch.uint8).tolist()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if dataclasses.is_dataclass(value):
        return type(value), {
            field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    return value


def frame(header: Any, tensors: Mapping[str, Any] | None = None, data: bytes = b"") -> bytes:
    """A frame with this header, which need not be a proper one."""
    text = json.dumps({"__metadata__": {"splitfl": json.dumps(header)}, **(tensors or {})}).encode()
    return len(text).to_bytes(8, "little") + text + data


def header(kind: str, **changes: Any) -> dict[str, Any]:
    return {"version": "2", "kind": kind, "envelope": [0, 0, 0, "0" * 16], **changes}


def test_every_kind_of_message_has_a_case() -> None:
    assert set(KINDS) == {*typing.get_args(Message), Lost, Refusal}


@pytest.mark.slow
@settings(max_examples=200)
@given(ANY, ENVELOPES)
@example(Gradient(ids_B=torch.tensor(5), grad=torch.empty(0, 3)), HERE)
@example(Adapter(version=0, tensors={}, losses=(float("inf"), -0.0)), HERE)
def test_a_message_arrives_as_it_was_sent(message: Message, envelope: Envelope) -> None:
    got, its_envelope = decode(encode(message, envelope))
    assert plain(got) == plain(message)
    assert its_envelope == envelope


def test_a_loss_that_is_not_a_number_arrives() -> None:
    got, _ = decode(encode(Adapter(version=1, tensors={}, losses=(float("nan"),)), HERE))
    assert isinstance(got, Adapter)
    assert got.losses[0] != got.losses[0]


def test_the_lost_message_is_always_the_same_one() -> None:
    assert decode(encode(LOST, HERE))[0] is LOST


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_frame_is_as_long_as_its_tensors_and_little_more(dtype: torch.dtype) -> None:
    hidden = torch.zeros(500, 384, dtype=dtype)
    message = Activation(ids_B=torch.arange(16), hidden=hidden, labels=torch.arange(16))
    assert 0 < len(encode(message, HERE)) - hidden.nbytes - 2 * 16 * 8 < 500


def test_a_frame_holds_none_of_the_rest_of_a_view() -> None:
    whole = torch.zeros(1000, 8)
    assert len(encode(Gradient(ids_B=torch.arange(1), grad=whole[:1]), HERE)) < 500


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_wire_error(noise: bytes) -> None:
    decode_or_refuse(noise)


@settings(max_examples=200)
@given(st.binary(max_size=120), st.binary(max_size=30))
def test_any_bytes_of_a_proper_length_are_a_frame_or_a_wire_error(inside: bytes, after: bytes) -> None:
    decode_or_refuse(len(inside).to_bytes(8, "little") + inside + after)


@settings(max_examples=200)
@given(st.integers(0, 8 * len(SAMPLE) - 1))
def test_a_flipped_bit_is_a_frame_or_a_wire_error(bit: int) -> None:
    damaged = bytearray(SAMPLE)
    damaged[bit // 8] ^= 1 << bit % 8
    decode_or_refuse(bytes(damaged))


def test_a_frame_that_ends_early_is_a_wire_error() -> None:
    for length in range(len(SAMPLE)):
        with pytest.raises(WireError):
            decode(SAMPLE[:length])


def decode_or_refuse(noise: bytes) -> None:
    try:
        message, _ = decode(noise)
    except WireError:
        return
    assert isinstance(message, (Message, Lost, Refusal))


NUMBERS_OF_ALL_KINDS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5)
)
ANYTHING = st.recursive(
    NUMBERS_OF_ALL_KINDS,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(st.text(max_size=5), inside, max_size=3),
    max_leaves=6,
)
FIELDS = ("ask", "round", "steps", "values", "version", "samples", "losses", "reason")


@pytest.mark.slow
@settings(max_examples=150)
@given(
    kind=st.sampled_from([kind.__name__ for kind in KINDS]),
    envelope=st.lists(NUMBERS_OF_ALL_KINDS, min_size=4, max_size=4) | ANYTHING,
    fields=st.dictionaries(st.sampled_from(FIELDS), ANYTHING) | ANYTHING,
)
def test_a_header_of_anything_is_a_frame_or_a_wire_error(kind: str, envelope: Any, fields: Any) -> None:
    decode_or_refuse(frame(header(kind, envelope=envelope, fields=fields)))


@pytest.mark.slow
@settings(max_examples=200)
@given(
    dtype=st.sampled_from(["F32", "BF16", "I64", "BOOL", "U8", "F8_E4M3", "F4", "C64", "nothing", 3]),
    shape=st.lists(st.integers(-2, 2**62), max_size=3) | ANYTHING,
    offsets=st.lists(st.integers(-2, 2**63), min_size=2, max_size=2) | ANYTHING,
)
def test_tensors_of_any_claim_are_a_frame_or_a_wire_error(dtype: Any, shape: Any, offsets: Any) -> None:
    claims = {"grad": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}
    decode_or_refuse(frame(header("Gradient"), claims, b"\0" * 16))


IDS = {"ids_B": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]}}
FINE = b"\1" + b"\0" * 7


@pytest.mark.parametrize(
    ("damaged", "sentence"),
    [
        (b"", "a frame must have 8 to 2147483648 bytes, got 0"),
        (frame(header("Lost", version="0")), "a frame has wire format '0', must be '2'"),
        (frame(header("Gossip")), "a message has unknown kind 'Gossip'"),
        (frame(header("Lost"), IDS, FINE), "a message of kind Lost has unknown tensors"),
        (frame(header("Refusal", fields={"reason": "x", "is_final": True}), IDS, FINE), "unknown tensors"),
        (frame(header("Gradient"), {"more": IDS["ids_B"]}, FINE), "damaged"),
        (
            frame(header("Lost", version="1")),
            "a frame has wire format '1', must be '2': install the",
        ),
        (frame(header("Control", fields={"ask": "begin"})), "a message has unknown kind 'Control'"),
        (frame(header("Begin")), "damaged"),
        (frame(header("Begin", fields={"steps": 1.5})), "damaged"),
        (frame(header("Begin", fields={"steps": 2**63})), "no readable header"),
        (frame(header("Begin", fields={"steps": 1, "speed": 2})), r"unknown fields \['speed'\]"),
        (frame(header("Done", fields={"plan": {"method": "x", "cut": 1, "rank": 1, "wish": 1}})), "damaged"),
        (frame(header("Done", fields={"plan": {"method": "x", "cut": 1.5, "rank": 1}})), "damaged"),
        (frame(header("Join", fields={"checkpoints": [[1, "x"]]})), "damaged"),
        (frame(header("Lost", envelope=[0, 0, 0, "7ff8000000000000"])), "no envelope"),
        (frame(header("Lost", envelope=[0, 0, 0, "bff0000000000000"])), "no envelope"),
        (frame(header("Lost", envelope=[0, float("inf"), 0, "0" * 16])), "no envelope"),
        (frame([1, 2]), "a frame's header must be an object, got list"),
        (frame("[" * 100_000), "no readable header|must be an object"),
        ((2**63).to_bytes(8, "little") + b"{}", "has an invalid header length, 9223372036854775808"),
        (b"\xff" * 64, "has an invalid header length"),
    ],
)
def test_an_invalid_frame_is_refused_with_the_reason(damaged: bytes, sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        decode(damaged)


def test_an_extra_tensor_is_refused_by_name() -> None:
    tensors = {**IDS, "grad": {"dtype": "U8", "shape": [0], "data_offsets": [8, 8]}}
    extra = {**tensors, "virus": {"dtype": "U8", "shape": [2], "data_offsets": [8, 10]}}
    with pytest.raises(WireError, match=r"kind Gradient has unknown tensors \['virus'\]"):
        decode(frame(header("Gradient"), extra, FINE + b"\0\0"))


def test_a_frame_longer_than_allowed_is_refused() -> None:
    with pytest.raises(WireError, match="a frame must have 8 to 100 bytes"):
        decode(SAMPLE, max_bytes=100)


def test_a_claimed_size_is_not_believed_before_it_is_checked() -> None:
    huge = {"grad": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    lies = [frame(header("Gradient"), huge), (2**40).to_bytes(8, "little") + b"{}" * 50]
    tracemalloc.start()
    try:
        for lie in lies:
            with pytest.raises(WireError):
                decode(lie)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_nothing_in_a_frame_is_unpickled() -> None:
    before = set(sys.modules)
    pickled = b"cos\nsystem\n(S'true'\ntR."
    with pytest.raises(WireError):
        decode(pickled * 10)
    assert set(sys.modules) == before
