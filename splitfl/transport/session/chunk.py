"""Chunks, the units in which sessions exchange messages over any connection that carries bytes.

A message is sent as chunks of one kind and number, each with its offset in the message
and the message's total length. Control messages are JSON in one chunk.
Every length is checked before data is stored.
"""

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final

from splitfl.core.errors import WireError
from splitfl.wire.frame import MAX_FRAME_BYTES

MAX_CHUNK_BYTES: Final = 4 << 20
_HEADER: Final = struct.Struct("<BQQQ")
HEADER_BYTES: Final = _HEADER.size


class Kind(IntEnum):
    """The kind of a chunk."""

    HELLO = 1
    """A client's identity and receive position: the first chunk of every connection."""
    WELCOME = 2
    """The server's experiment and receive position."""
    REFUSED = 3
    """The server rejects this client, with the reason."""
    READY = 4
    """A client is ready to start."""
    GO = 5
    """The server starts the run."""
    REQUEST = 6
    """A part of a client's message."""
    ANSWER = 7
    """A part of the server's reply to the message of the same number."""
    BEAT = 8
    """A heartbeat that requests one, with the receive position."""
    POSITION = 9
    """The receive position, an acknowledgement."""
    WANT = 10
    """Data is missing: resume from the receive position."""
    LEAVE = 11
    """A client leaves the run."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """A decoded chunk."""

    kind: Kind
    number: int
    offset: int
    total: int
    data: memoryview

    def table(self) -> dict[str, Any]:
        """The JSON object in the chunk. Raises WireError for any other data."""
        try:
            table = json.loads(self.data.tobytes())
        except (ValueError, RecursionError):
            raise WireError(f"a {self.kind.name} without readable JSON came") from None
        if not isinstance(table, dict):
            raise WireError(f"a {self.kind.name} must hold an object, got {type(table).__name__}")
        return table


def piece(kind: Kind, number: int, message: memoryview, offset: int, length: int) -> bytes:
    """The encoded chunk of `length` bytes of a message from `offset` on."""
    return b"".join((_HEADER.pack(kind, number, offset, len(message)), message[offset : offset + length]))


def say(kind: Kind, table: dict[str, Any] | None = None, *, number: int = 0, offset: int = 0) -> bytes:
    """The encoded chunk of a control message: a JSON object, or a position."""
    data = b"" if table is None else json.dumps(table, separators=(",", ":")).encode()
    if len(data) + HEADER_BYTES > MAX_CHUNK_BYTES:
        raise WireError(f"a {kind.name} must have at most {MAX_CHUNK_BYTES} bytes, got {len(data)}")
    return _HEADER.pack(kind, number, offset, len(data)) + data


def unpack(raw: bytes) -> Chunk:
    """Decodes a chunk. Raises WireError for invalid data."""
    if not HEADER_BYTES <= len(raw) <= MAX_CHUNK_BYTES:
        raise WireError(f"a chunk must have {HEADER_BYTES} to {MAX_CHUNK_BYTES} bytes, got {len(raw)}")
    kind, number, offset, total = _HEADER.unpack_from(raw)
    if kind not in Kind.__members__.values():
        raise WireError(f"a chunk of unknown kind {kind} came")
    data = memoryview(raw)[HEADER_BYTES:]
    if kind in (Kind.REQUEST, Kind.ANSWER):
        if not 0 < total <= MAX_FRAME_BYTES:
            raise WireError(f"a message must have 1 to {MAX_FRAME_BYTES} bytes, got {total}")
        if offset + len(data) > total or not len(data):
            raise WireError(
                f"a chunk of {len(data)} bytes from {offset} on does not fit into a message of {total}"
            )
    elif total != len(data):
        raise WireError(f"a {Kind(kind).name} of {len(data)} bytes declares {total}")
    return Chunk(kind=Kind(kind), number=number, offset=offset, total=total, data=data)
