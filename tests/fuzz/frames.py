"""Feeds malformed frames and parcels, made from valid ones, to whatever takes bytes from a peer.

    python -m tests.fuzz.frames --count 1000000

Each must be taken or refused with a WireError, in less than a second of CPU time, and memory
must not grow. Ends with exit code 1 and the bytes in hexadecimal where one is not.
"""

from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

import torch

from splitfl.config import CodecConfig
from splitfl.core.errors import PeerLost, WireError
from splitfl.core.messages import (
    LOST,
    Activation,
    Adapter,
    AdapterDelta,
    Begin,
    Done,
    Gradient,
    Join,
    Output,
    Plan,
    Scalars,
)
from splitfl.transport.session.chunk import Kind, piece, say, unpack
from splitfl.transport.session.inbox import Inbox
from splitfl.wire import Envelope, Refusal, decode, encode
from splitfl.wire.adapter_encoder import AdapterEncoder
from splitfl.wire.frame import Frame
from tests.fuzz import feeding
from tests.fuzz.feeding import Food, Found

_CODECS: Final = (
    *("bf16", "int8", "int4", "uniform", "uniform+huffman", "int4+huffman"),
    *("topk:k=3+int8", "topk:k=3+int4+huffman", "lowrank:rank=2+int8"),
)
_HELD: Final = {"a": torch.zeros(4, 8), "b": torch.zeros(8, 4), "bias": torch.zeros(3)}
_REFUSES_BY: Final = (WireError, PeerLost)
_WORDS: Final = (
    *(
        b'"',
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b"\\",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"NaN",
        b"Infinity",
    ),
    *(
        b"9" * 400,
        b"[" * 2000,
        b'{"a":' * 500,
        b"F32",
        b"I64",
        b"BF16",
        b"F8_E4M3",
        b"__metadata__",
        b"splitfl",
        b"codec",
        b"int4",
        b"hidden.scale",
        b"I8",
    ),
    *(
        b"\\ud800",
        b"\xff\xfe",
        b"\x00" * 9,
        b"data_offsets",
        b"shape",
        b"dtype",
        b"__class__",
        b"Begin",
        b"plan",
    ),
)


def fuzz(count: int, seed: int) -> Found:
    """Feeds so many; raises Broken for the first that does what none may do."""
    return feeding.fuzz(foods(), count, seed)


def foods() -> list[Food]:
    """Every kind of frame and parcel."""
    good = [*((frame, take_frame) for frame in _frames()), *((raw, take_parcel) for raw in _parcels())]
    good += [(_delta(codec), partial(take_delta, codec)) for codec in _CODECS[:-1]]
    return [Food(good=raw, read=read, refuses_by=_REFUSES_BY, words=_WORDS) for raw, read in good]


def take_frame(raw: bytes) -> None:
    """As a server takes it."""
    with suppress(WireError):
        _ = Frame(raw).envelope
    decode(raw)


def take_delta(codec: str, raw: bytes) -> None:
    """As a server takes a client's encoded adapters."""
    message, _ = decode(raw)
    if isinstance(message, AdapterDelta):
        AdapterEncoder(codec=codec).received(_HELD, message)


def take_parcel(raw: bytes) -> None:
    """As a session takes it."""
    parcel = unpack(raw)
    if parcel.kind in (Kind.HELLO, Kind.WELCOME, Kind.REFUSED):
        parcel.table()
    Inbox().take(parcel)


def _frames() -> list[bytes]:
    here, ids = Envelope(client=1, round=2, lap=3, flops=4.5), torch.arange(3)
    hidden = torch.ones(3, 2, 4, dtype=torch.bfloat16)
    mask = {"mask": torch.ones(3, 2, dtype=torch.bool)}
    messages = (
        Begin(steps=4, version=1, flops_per_s=1.0),
        Join(checkpoints=((1, 0),)),
        Done(plan=Plan(method="sfl-v2", cut=1, rank=4)),
        Activation(ids_B=ids, hidden=hidden, context=mask, labels=ids.clone()),
        Output(ids_B=ids, hidden=hidden),
        Gradient(ids_B=ids, grad=hidden, loss=0.5),
        Scalars(round=0, values=torch.ones(2, 2), steps=(1, 1), samples=3, losses=(0.5,)),
        Adapter(version=1, tensors={"a.b": torch.ones(2, 2)}, samples=3, losses=(0.5,)),
        LOST,
        Refusal(reason="the run is over"),
    )
    plain = [encode(message, here) for message in messages]
    codecs = [CodecConfig(activation=one, output=one, gradient=one) for one in _CODECS]
    rows = [message for message in messages if isinstance(message, Activation | Output | Gradient)]
    return plain + [encode(message, here, codec) for message in rows for codec in codecs]


def _delta(codec: str) -> bytes:
    new = {name: torch.arange(value.numel()).reshape(value.shape) / 7 for name, value in _HELD.items()}
    made = AdapterEncoder(codec=codec).sent(_HELD, new, {}, version=1, base=1)
    return encode(replace(made.delta, samples=3), Envelope(client=1, round=2, lap=3, flops=4.5))


def _parcels() -> list[bytes]:
    hello = {"protocol": "1", "client": 0, "session": "a" * 32, "at": [0, 0], "token": None}
    message = memoryview(bytes(range(64)))
    pieces = [piece(kind, 1, message, at, 16) for kind in (Kind.REQUEST, Kind.ANSWER) for at in (0, 16, 48)]
    return [*pieces, *(say(kind, hello) for kind in (Kind.HELLO, Kind.WELCOME)), say(Kind.BEAT, number=1)]


if __name__ == "__main__":
    feeding.command("Feed malformed frames to whatever takes bytes from a peer.", fuzz, 1_000_000)
