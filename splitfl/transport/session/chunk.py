"""A parcel: the piece in which sessions speak, over any road that carries bytes.

A message travels as parcels of one kind and number, each with its offset in the message
and the message's whole length. What two ends say of themselves is JSON in one parcel.
Every length is checked before anything is kept.
"""

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from splitfl.core.errors import WireError
from splitfl.wire.frame import MAX_FRAME_BYTES

MAX_PARCEL_BYTES: Final = 4 << 20
_HEADER: Final = struct.Struct("<BQQQ")
HEADER_BYTES: Final = _HEADER.size


class Kind(IntEnum):
    """What a parcel is for."""

    HELLO = 1
    """A client says who it is and where it stands: the first parcel of every connection."""
    WELCOME = 2
    """The server says what is to be run and where it stands."""
    REFUSED = 3
    """The server will have nothing more to do with this client, and why."""
    READY = 4
    """A client has made itself ready."""
    GO = 5
    """The server lets the clients go."""
    REQUEST = 6
    """A piece of a client's message."""
    ANSWER = 7
    """A piece of the server's answer to the message of the same number."""
    BEAT = 8
    """A sign of life that asks for one, with how much of the other's message is here."""
    POSITION = 9
    """How much of the other's message is here."""
    WANT = 10
    """What is here is not all that was sent: go on from there."""
    LEAVE = 11
    """A client goes for good."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A parcel that came, taken apart."""

    kind: Kind
    number: int
    offset: int
    total: int
    data: memoryview

    def table(self) -> dict[str, Any]:
        """The JSON object in it; WireError where it holds none."""
        try:
            table = json.loads(self.data.tobytes())
        except (ValueError, RecursionError):
            raise WireError(f"a {self.kind.name} without readable JSON came") from None
        if not isinstance(table, dict):
            raise WireError(f"a {self.kind.name} must hold an object, got {type(table).__name__}")
        return table


def piece(kind: Kind, number: int, message: memoryview, offset: int, length: int) -> bytes:
    """The parcel of so much of a message, from `offset` on."""
    return b"".join((_HEADER.pack(kind, number, offset, len(message)), message[offset : offset + length]))


def say(kind: Kind, table: dict[str, Any] | None = None, *, number: int = 0, offset: int = 0) -> bytes:
    """The parcel of what is no message: a JSON object, or a place in one."""
    data = b"" if table is None else json.dumps(table, separators=(",", ":")).encode()
    if len(data) + HEADER_BYTES > MAX_PARCEL_BYTES:
        raise WireError(f"a {kind.name} must have at most {MAX_PARCEL_BYTES} bytes, got {len(data)}")
    return _HEADER.pack(kind, number, offset, len(data)) + data


def unpack(raw: bytes) -> Chunk:
    """The parcel in these bytes; WireError for anything else."""
    if not HEADER_BYTES <= len(raw) <= MAX_PARCEL_BYTES:
        raise WireError(f"a parcel must have {HEADER_BYTES} to {MAX_PARCEL_BYTES} bytes, got {len(raw)}")
    kind, number, offset, total = _HEADER.unpack_from(raw)
    if kind not in Kind.__members__.values():
        raise WireError(f"a parcel of unknown kind {kind} came")
    data = memoryview(raw)[HEADER_BYTES:]
    if kind in (Kind.REQUEST, Kind.ANSWER):
        if not 0 < total <= MAX_FRAME_BYTES:
            raise WireError(f"a message must have 1 to {MAX_FRAME_BYTES} bytes, got {total}")
        if offset + len(data) > total or not len(data):
            raise WireError(f"a parcel of {len(data)} bytes from {offset} on is none of a message of {total}")
    elif total != len(data):
        raise WireError(f"a {Kind(kind).name} of {len(data)} bytes says that it has {total}")
    return Chunk(kind=Kind(kind), number=number, offset=offset, total=total, data=data)
