"""One client's session as its server keeps it, whatever connections come and go under it.

Knows no sockets: parcels are brought to `hear`, and taken from `outbox`. A request is
handed on once; what answers it is kept until the client has it, and given again to a
client that lost its connection over it.
"""

import threading
from collections.abc import Callable

from splitfl.core.errors import WireError
from splitfl.transport.session.chunk import Chunk, Kind, say, unpack
from splitfl.transport.session.inbox import Gap, Inbox
from splitfl.transport.session.outbox import Outbox

Ask = Callable[["Session", int, bytes], None]
"""Hands on a session's request of this number."""


class Session:
    """A client's process, from its first hello to its leave.

    `count` says how many processes have been this client. `heard_s` is on the clock given.
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
        """`tell_every_bytes`: how often a sender that keeps a window is told where this end stands."""
        self.client = client
        self.name = name
        self.count = count
        self.outbox = outbox
        self.heard_s = clock_s()
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
        """Whether there is a connection, as far as is known."""
        return self._line is not None

    @property
    def position(self) -> tuple[int, int]:
        """Which of the client's messages is the last that came, and how many bytes of it are here."""
        return self._inbox.number, self._inbox.received_bytes

    def attach(self, welcome: bytes, number: int, offset: int) -> int:
        """A new connection of this session, whose client has so much of the answer; its number."""
        with self.lock:
            self.heard_s = self._clock_s()
            self._line = self.outbox.open(welcome)
            self.outbox.go_on(number, offset)
            return self._line

    def detach(self, line: int) -> bool:
        """This connection is gone; whether it was the one in use."""
        with self.lock:
            is_current = line == self._line
            if is_current:
                self._line = None
                self.outbox.open()
            return is_current

    def retire(self) -> None:
        """Another process is this client now: nothing that this one says is heard any more, or told."""
        with self.lock:
            self._line = None
            self.outbox.open()

    def hear(self, line: int, raw: bytes) -> None:
        """A parcel came over this connection; WireError for what is none, or out of place."""
        parcel = unpack(raw)
        with self.lock:
            if line != self._line:
                return
            self.heard_s = self._clock_s()
            if parcel.kind is not Kind.REQUEST:
                self._obey(parcel)
                return
            frame = self._take(parcel)
        if frame is not None:
            self._ask(self, parcel.number, frame)

    def answer(self, number: int, frame: bytes) -> None:
        """What the client's message of this number is answered by."""
        if number == self._inbox.number:
            self.outbox.put(Kind.ANSWER, number, frame)

    def _take(self, parcel: Chunk) -> bytes | None:
        before = self._inbox.number
        taken = self._inbox.take(parcel)
        if self._inbox.number != before:
            self.outbox.forget()  # who asks anew has the answer before
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

    def _obey(self, parcel: Chunk) -> None:
        match parcel.kind:
            case Kind.READY:
                self.is_ready = True
            case Kind.BEAT:
                self.outbox.confirm(parcel.number, parcel.offset, is_beat=True)
                self._tell(Kind.BEAT)
            case Kind.POSITION:
                self.outbox.confirm(parcel.number, parcel.offset, is_beat=False)
            case Kind.WANT:
                self.outbox.go_on(parcel.number, parcel.offset)
            case Kind.LEAVE:
                self.has_left = True
            case Kind.HELLO:
                pass  # a road that says things twice said it twice
            case _:
                raise WireError(f"a server has no use for a {parcel.kind.name}")

    def _tell(self, kind: Kind) -> None:
        number, offset = self.position
        self.outbox.say(say(kind, number=number, offset=offset))
