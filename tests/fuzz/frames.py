"""Feeds malformed frames and parcels, made from valid ones, to whatever takes bytes from a peer.

    python -m tests.fuzz.frames --count 1000000

Each must be taken or refused with a WireError, in less than a second of CPU time, and memory
must not grow. Ends with exit code 1 and the bytes in hexadecimal where one is not.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from random import Random
from typing import Final

import psutil
import torch

from splitfl.errors import PeerLost, WireError
from splitfl.messages import LOST, Activation, Adapter, Control, Gradient, Output, Scalars
from splitfl.transport.inbox import Inbox
from splitfl.transport.parcel import Kind, piece, say, unpack
from splitfl.wire import Envelope, Refusal, decode, encode
from splitfl.wire.frame import sender

_SLOW_S: Final = 1.0
_WARM_UP: Final = 2_000
_INTERESTING: Final = (0, 1, 0x7F, 0x80, 0xFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
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
    ),
    *(b"\\ud800", b"\xff\xfe", b"\x00" * 9, b"data_offsets", b"shape", b"dtype", b"__class__", b"Control"),
)


@dataclass(kw_only=True)
class Found:
    """What a run of the fuzzer has come to."""

    seed: int
    frames: int = 0
    taken: int = 0
    refused: int = 0
    slowest_s: float = 0.0
    grown_bytes: int = 0
    took_s: float = 0.0


class Broken(Exception):
    """Something was neither taken nor refused."""


def fuzz(count: int, seed: int, max_growth_bytes: int = 64 << 20) -> Found:
    """Feeds so many; raises Broken for the first that does what none may do."""
    chance, found, began_s = Random(seed), Found(seed=seed), time.perf_counter()
    valid = [*((frame, _take_frame) for frame in _frames()), *((raw, _take_parcel) for raw in _parcels())]
    process, before_bytes = psutil.Process(), 0
    while found.frames < count:
        if found.frames == min(_WARM_UP, count // 2):
            before_bytes = process.memory_info().rss
        original, take = chance.choice(valid)
        _feed(mutate(original, chance, [frame for frame, _ in valid]), take, found)
    found.grown_bytes = max(0, process.memory_info().rss - before_bytes)
    found.took_s = time.perf_counter() - began_s
    if found.grown_bytes > max_growth_bytes:
        raise Broken(f"memory grew by {found.grown_bytes} bytes")
    return found


def mutate(frame: bytes, chance: Random, others: list[bytes]) -> bytes:
    """The frame with one to four things wrong with it."""
    damaged = bytearray(frame)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(damaged) + 1)
        match chance.randrange(8):
            case 0 if damaged:
                damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
            case 1 if damaged:
                damaged[chance.randrange(len(damaged))] = chance.randrange(256)
            case 2:
                del damaged[at:]
            case 3:
                del damaged[at : at + chance.randint(1, 16)]
            case 4:
                damaged[at:at] = chance.choice(_WORDS)
            case 5:
                damaged[at : at + 8] = chance.choice(_INTERESTING).to_bytes(8, "little")
            case 6:
                other = chance.choice(others)
                damaged[at:] = other[chance.randrange(len(other)) :]
            case _:
                span = damaged[at : at + chance.randint(1, 64)]
                damaged[at:at] = span
    return bytes(damaged)


def _feed(raw: bytes, take: Callable[[bytes], None], found: Found) -> None:
    began_s = time.thread_time()
    try:
        take(raw)
        found.taken += 1
    except (WireError, PeerLost):
        found.refused += 1
    except Exception as error:
        raise Broken(f"{type(error).__name__}: {error} for {raw.hex()}") from error
    took_s = time.thread_time() - began_s
    found.frames += 1
    found.slowest_s = max(found.slowest_s, took_s)
    if took_s > _SLOW_S:
        raise Broken(f"it took {took_s:.1f} s to take {raw.hex()}")


def _take_frame(raw: bytes) -> None:
    with suppress(WireError):
        sender(raw)
    decode(raw)


def _take_parcel(raw: bytes) -> None:
    parcel = unpack(raw)
    if parcel.kind in (Kind.HELLO, Kind.WELCOME, Kind.REFUSED):
        parcel.table()
    Inbox().take(parcel)


def _frames() -> list[bytes]:
    here, ids = Envelope(client=1, round=2, lap=3, flops=4.5), torch.arange(3)
    hidden = torch.ones(3, 2, 4, dtype=torch.bfloat16)
    mask = {"mask": torch.ones(3, 2, dtype=torch.bool)}
    messages = (
        Control(ask="begin", round=1, steps=4, values={"peak_bytes": 1.0}),
        Activation(ids_B=ids, hidden=hidden, context=mask, labels=ids.clone()),
        Output(ids_B=ids, hidden=hidden),
        Gradient(ids_B=ids, grad=hidden, loss=0.5),
        Scalars(round=0, values=torch.ones(2, 2), steps=(1, 1), samples=3, losses=(0.5,)),
        Adapter(version=1, tensors={"a.b": torch.ones(2, 2)}, samples=3, losses=(0.5,)),
        LOST,
        Refusal(reason="the run is over"),
    )
    return [encode(message, here) for message in messages]


def _parcels() -> list[bytes]:
    hello = {"protocol": "1", "client": 0, "session": "a" * 32, "at": [0, 0], "token": None}
    message = memoryview(bytes(range(64)))
    pieces = [piece(kind, 1, message, at, 16) for kind in (Kind.REQUEST, Kind.ANSWER) for at in (0, 16, 48)]
    return [*pieces, *(say(kind, hello) for kind in (Kind.HELLO, Kind.WELCOME)), say(Kind.BEAT, number=1)]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Feed malformed frames to whatever takes bytes from a peer.")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    try:
        print(json.dumps(asdict(fuzz(asked.count, asked.seed))))
    except Broken as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
