"""The data that one end still has to send, over the current connection."""

import threading
from collections import deque
from typing import Final

from splitfl.core.errors import ConfigError, PeerLost
from splitfl.transport.session.chunk import Kind, piece

_MAX_WORDS: Final = 64
_MIN_CHUNK_BYTES: Final = 1 << 10
_PATIENCE: Final = 4
"""The number of heartbeats without progress after which chunks of this size count as dropped."""


class Outbox:
    """Control messages first, then the chunks of the current message.

    The connection takes a chunk when it can send one, so that a slow connection exerts backpressure and
    no queue grows. A message is kept until it is acknowledged completely; the next connection resumes it
    from the peer's receive position.
    """

    def __init__(self, chunk_bytes: int, window_bytes: int | None = None) -> None:
        """`window_bytes` limits unacknowledged data; None if the transport has its own flow control."""
        self._chunk_bytes = chunk_bytes
        self._window_bytes = window_bytes
        self._changed = threading.Condition()  # reentrant
        self._words: deque[bytes] = deque()
        self._last: tuple[bytes, ...] = ()
        self._line = 0
        self._is_held = True
        self._is_closing = False
        self._kind, self._number, self._message = Kind.REQUEST, 0, memoryview(b"")
        self._sent = self._confirmed = 0
        self._stalled_at = -1
        self._idle_beats = 0

    def open(self, *first: bytes) -> int:
        """Starts a new connection and returns its number; it sends `first`, and no message before `go_on`.

        `take` for previous connections returns None from now on.
        """
        with self._changed:
            self._line += 1
            self._is_held = True
            self._words.clear()
            self._words.extend(first)
            self._changed.notify_all()
            return self._line

    def say(self, word: bytes) -> None:
        """Queues a control message before the next chunk. Raises PeerLost if the peer accepts nothing."""
        with self._changed:
            if len(self._words) >= _MAX_WORDS:
                raise PeerLost(f"the peer has left {_MAX_WORDS} words untaken")
            self._words.append(word)
            self._changed.notify_all()

    def put(self, kind: Kind, number: int, message: bytes) -> None:
        """Sets the current message, replacing the previous one."""
        with self._changed:
            self._kind, self._number, self._message = kind, number, memoryview(message)
            self._sent = self._confirmed = 0
            self._stalled_at = -1
            self._idle_beats = 0
            self._changed.notify_all()

    def forget(self) -> None:
        """Drops the current message, which is acknowledged or obsolete."""
        with self._changed:
            self._message = memoryview(b"")
            self._sent = self._confirmed = 0

    def go_on(self, number: int, offset: int) -> None:
        """Resumes after the peer's receive position, `offset` bytes of message `number`."""
        with self._changed:
            self._is_held = False
            here = min(offset, len(self._message)) if number == self._number else 0
            self._sent = self._confirmed = here
            self._stalled_at = -1
            self._changed.notify_all()

    def confirm(self, number: int, offset: int, *, is_beat: bool) -> None:
        """Records the peer's receive position.

        With a window, a position that is unchanged since the last heartbeat despite data in flight means
        loss: the data is resent, after several heartbeats in smaller chunks, since a broker may drop large
        ones. Raises ConfigError if the smallest chunks are dropped too.
        """
        with self._changed:
            if number > self._number or self._is_held:
                return
            here = min(offset, self._sent) if number == self._number else 0
            self._idle_beats = 0 if here > self._confirmed else self._idle_beats
            self._confirmed = max(self._confirmed, here)
            if 0 < self._confirmed == len(self._message):
                self.forget()
            elif is_beat and self._window_bytes is not None and self._confirmed < self._sent:
                self._count_idle_beat()
                is_stalled = self._stalled_at == self._confirmed
                self._sent = self._confirmed if is_stalled else self._sent
                self._stalled_at = -1 if is_stalled else self._confirmed
            self._changed.notify_all()

    def take(self, line: int) -> bytes | None:
        """The next chunk for this connection, blocking; None after its end."""
        with self._changed:
            while line == self._line:
                if self._words:
                    return self._words.popleft()
                if self._may_send():
                    chunk = piece(self._kind, self._number, self._message, self._sent, self._chunk_bytes)
                    self._sent = min(self._sent + self._chunk_bytes, len(self._message))
                    return chunk
                if self._is_closing and self._sent == len(self._message):
                    if not self._last:
                        return None
                    self._words.extend(self._last)
                    self._last = ()
                else:
                    self._changed.wait()
            return None

    def close(self, *last: bytes) -> None:
        """Ends sending after the current message and `last`."""
        with self._changed:
            self._last = last
            self._is_closing = True
            self._changed.notify_all()

    @property
    def kept_bytes(self) -> int:
        """The bytes kept for retransmission."""
        return len(self._message)

    def _count_idle_beat(self) -> None:
        self._idle_beats += 1
        if self._idle_beats < _PATIENCE:
            return
        if self._chunk_bytes <= _MIN_CHUNK_BYTES:
            raise ConfigError(
                f"heartbeats arrive, but no part of a message of {len(self._message)} bytes, in chunks "
                f"of {self._chunk_bytes}: the network or the broker drops them"
            )
        self._chunk_bytes = max(_MIN_CHUNK_BYTES, self._chunk_bytes // 2)
        self._idle_beats = 0
        self._sent = self._confirmed

    def _may_send(self) -> bool:
        has_more = not self._is_held and self._sent < len(self._message)
        return has_more and (self._window_bytes is None or self._sent - self._confirmed < self._window_bytes)
