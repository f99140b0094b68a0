"""What one end has still to say, for whichever connection is there to carry it."""

import threading
from collections import deque
from typing import Final

from splitfl.core.errors import ConfigError, PeerLost
from splitfl.transport.session.chunk import Kind, piece

_MAX_WORDS: Final = 64
_LEAST_CHUNK_BYTES: Final = 1 << 10
_PATIENCE: Final = 4
"""So many signs of life without any progress show that pieces of this size are dropped."""


class Outbox:
    """Words first, then the message that is due, one parcel at a time.

    The carrier takes a parcel when it can carry one: nothing is cut off a message before,
    so that a slow road holds back the sender and no queue grows. Kept until the peer has
    all of it, a message goes on over the next connection from where the peer stands.
    """

    def __init__(self, chunk_bytes: int, window_bytes: int | None = None) -> None:
        """`window_bytes` bounds what is under way unconfirmed; None where the road does so itself."""
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
        """A new connection's number: it says `first`, then words, and no message before `go_on`.

        Whoever takes for the connection before gets nothing any more.
        """
        with self._changed:
            self._line += 1
            self._is_held = True
            self._words.clear()
            self._words.extend(first)
            self._changed.notify_all()
            return self._line

    def say(self, word: bytes) -> None:
        """Says this before anything more of the message; PeerLost where the peer takes nothing."""
        with self._changed:
            if len(self._words) >= _MAX_WORDS:
                raise PeerLost(f"the peer has left {_MAX_WORDS} words untaken")
            self._words.append(word)
            self._changed.notify_all()

    def put(self, kind: Kind, number: int, message: bytes) -> None:
        """The message that is due now, in place of the one before."""
        with self._changed:
            self._kind, self._number, self._message = kind, number, memoryview(message)
            self._sent = self._confirmed = 0
            self._stalled_at = -1
            self._idle_beats = 0
            self._changed.notify_all()

    def forget(self) -> None:
        """The peer has the whole message, or does not need it any more."""
        with self._changed:
            self._message = memoryview(b"")
            self._sent = self._confirmed = 0

    def go_on(self, number: int, offset: int) -> None:
        """The peer has `offset` bytes of message `number`: what follows is sent, again if it was before."""
        with self._changed:
            self._is_held = False
            here = min(offset, len(self._message)) if number == self._number else 0
            self._sent = self._confirmed = here
            self._stalled_at = -1
            self._changed.notify_all()

    def confirm(self, number: int, offset: int, *, is_beat: bool) -> None:
        """The peer tells where it stands.

        Where a road keeps a window, and the peer stood there a beat ago although more had
        been sent, that was lost on the way and is sent again, in the end in smaller pieces: a
        broker may drop large ones. Raises ConfigError where it drops the smallest too.
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
        """The next parcel for this connection, waited for; None once it is to carry no more."""
        with self._changed:
            while line == self._line:
                if self._words:
                    return self._words.popleft()
                if self._may_send():
                    parcel = piece(self._kind, self._number, self._message, self._sent, self._chunk_bytes)
                    self._sent = min(self._sent + self._chunk_bytes, len(self._message))
                    return parcel
                if self._is_closing and self._sent == len(self._message):
                    if not self._last:
                        return None
                    self._words.extend(self._last)
                    self._last = ()
                else:
                    self._changed.wait()
            return None

    def close(self, *last: bytes) -> None:
        """Says what is due, then `last`, then no more."""
        with self._changed:
            self._last = last
            self._is_closing = True
            self._changed.notify_all()

    @property
    def kept_bytes(self) -> int:
        """How much is kept for a peer that may ask for it again."""
        return len(self._message)

    def _count_idle_beat(self) -> None:
        self._idle_beats += 1
        if self._idle_beats < _PATIENCE:
            return
        if self._chunk_bytes <= _LEAST_CHUNK_BYTES:
            raise ConfigError(
                f"signs of life arrive, and nothing of a message of {len(self._message)} bytes, in pieces "
                f"of {self._chunk_bytes}: whatever carries them drops larger ones"
            )
        self._chunk_bytes = max(_LEAST_CHUNK_BYTES, self._chunk_bytes // 2)
        self._idle_beats = 0
        self._sent = self._confirmed

    def _may_send(self) -> bool:
        has_more = not self._is_held and self._sent < len(self._message)
        return has_more and (self._window_bytes is None or self._sent - self._confirmed < self._window_bytes)
