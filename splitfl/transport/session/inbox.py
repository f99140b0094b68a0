"""Reassembles a peer's messages from their chunks: exactly once, in order, complete."""

from dataclasses import dataclass

from splitfl.core.errors import WireError
from splitfl.transport.session.chunk import Chunk


@dataclass(frozen=True)
class Gap:
    """A chunk before the received one is missing."""


class Inbox:
    """Accepts the chunks of message `number`, then of the next.

    Duplicates are dropped, so that a peer may repeat unacknowledged data. Memory is bounded
    by the received data, not by the claimed length.
    """

    def __init__(self) -> None:
        self.number = 0
        self.received_bytes = 0
        self._total = 0
        self._parts: list[memoryview] = []
        self._is_whole = True

    def take(self, chunk: Chunk) -> bytes | Gap | None:
        """The message that this chunk completes, a `Gap`, or None. Raises WireError if inconsistent."""
        if chunk.number < self.number or (chunk.number == self.number and self._is_whole):
            return None
        if chunk.number != self.number + self._is_whole:
            raise WireError(f"message {chunk.number} came while message {self.number} was due")
        if self._is_whole:
            if chunk.offset:
                return Gap()
            self.number, self.received_bytes, self._total = chunk.number, 0, chunk.total
            self._is_whole = False
        if chunk.total != self._total:
            raise WireError(f"a message of {self._total} bytes now claims {chunk.total}")
        if chunk.offset > self.received_bytes:
            return Gap()
        if chunk.offset < self.received_bytes:
            return None
        self._parts.append(chunk.data)
        self.received_bytes += len(chunk.data)
        return self._whole() if self.received_bytes == self._total else None

    def forget(self) -> None:
        """Drops the received part of a message."""
        self._parts.clear()

    def _whole(self) -> bytes:
        self._is_whole = True
        try:
            return b"".join(self._parts)
        finally:
            self._parts.clear()
