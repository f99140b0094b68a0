"""The server's state of one client's session, which persists across connections.

It does no I/O: received chunks are passed to `receive`, chunks to send are taken from `outbox`. A
request is handled once; its reply is kept until acknowledged, and resent after a reconnection.
"""

import threading
from collections.abc import Callable

from splitfl.core.errors import WireError
from splitfl.transport.session.chunk import Chunk, Kind, say, unpack
from splitfl.transport.session.inbox import Gap, Inbox
from splitfl.transport.session.outbox import Outbox

Ask = Callable[["Session", int, bytes], None]
"""Handles a session's request of this number."""


class Session:
    """A client's process, from its first hello until it leaves.

    `count` is the number of processes of this client so far; `last_received_s` is the last chunk's time.
    """

    def __init__(
        self,
        client: int,
        name: str,
        count: int,
        outbox: Outbox,
        ask: Ask,
        clock_s: Callable[[], float],
        tell_every_bytes: int | None,
    ) -> None:
        """`tell_every_bytes`: the interval of acknowledgements to a sender with a window."""
        self.client = client
        self.name = name
        self.count = count
        self.outbox = outbox
        self.last_received_s = clock_s()
        self.is_ready = False
        self.has_left = False
        self.lock = threading.Lock()
        self._ask = ask
        self._clock_s = clock_s
        self._tell_every_bytes = tell_every_bytes
        self._told_bytes = 0
        self._line: int | None = None
        self._inbox = Inbox()

    @property
    def is_attached(self) -> bool:
        """Whether the session has a connection that is not known to be broken."""
        return self._line is not None

    @property
    def position(self) -> tuple[int, int]:
        """The receive position: the number of the client's last message, and its received bytes."""
        return self._inbox.number, self._inbox.received_bytes

    def attach(self, welcome: bytes, number: int, offset: int) -> int:
        """Starts a new connection, with the client's receive position; returns its number."""
        with self.lock:
            self.last_received_s = self._clock_s()
            self._line = self.outbox.open(welcome)
            self.outbox.go_on(number, offset)
            return self._line

    def detach(self, line: int) -> bool:
        """Ends this connection; returns whether it was the current one."""
        with self.lock:
            is_current = line == self._line
            if is_current:
                self._line = None
                self.outbox.open()
            return is_current

    def retire(self) -> None:
        """Ends the session of a process that was replaced by another."""
        with self.lock:
            self._line = None
            self.outbox.open()

    def receive(self, line: int, raw: bytes) -> None:
        """Handles a chunk received over this connection. Raises WireError if invalid or unexpected."""
        chunk = unpack(raw)
        with self.lock:
            if line != self._line:
                return
            self.last_received_s = self._clock_s()
            if chunk.kind is not Kind.REQUEST:
                self._obey(chunk)
                return
            frame = self._take(chunk)
        if frame is not None:
            self._ask(self, chunk.number, frame)

    def answer(self, number: int, frame: bytes) -> None:
        """Sends the reply to the client's message of this number."""
        if number == self._inbox.number:
            self.outbox.put(Kind.ANSWER, number, frame)

    def _take(self, chunk: Chunk) -> bytes | None:
        before = self._inbox.number
        taken = self._inbox.take(chunk)
        if self._inbox.number != before:
            self.outbox.forget()  # a new request acknowledges the previous reply
            self._told_bytes = 0
        if isinstance(taken, Gap):
            self._tell(Kind.WANT)
            return None
        every_bytes = self._tell_every_bytes
        if every_bytes is not None and (
            taken is not None or self._inbox.received_bytes - self._told_bytes >= every_bytes
        ):
            self._told_bytes = self._inbox.received_bytes
            self._tell(Kind.POSITION)
        return taken

    def _obey(self, chunk: Chunk) -> None:
        match chunk.kind:
            case Kind.READY:
                self.is_ready = True
            case Kind.BEAT:
                self.outbox.confirm(chunk.number, chunk.offset, is_beat=True)
                self._tell(Kind.BEAT)
            case Kind.POSITION:
                self.outbox.confirm(chunk.number, chunk.offset, is_beat=False)
            case Kind.WANT:
                self.outbox.go_on(chunk.number, chunk.offset)
            case Kind.LEAVE:
                self.has_left = True
            case Kind.HELLO:
                pass  # a duplicate
            case _:
                raise WireError(f"a server has no use for a {chunk.kind.name}")

    def _tell(self, kind: Kind) -> None:
        number, offset = self.position
        self.outbox.say(say(kind, number=number, offset=offset))
