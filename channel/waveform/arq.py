"""Selective-repeat ARQ between two nodes over packets of the modem. No I/O; times are passed in.

The link below may lose packets and their acknowledgements, but must not reorder them.
"""

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

from channel.core.arrays import above
from channel.core.errors import BadParameter
from channel.waveform.header import Header

WINDOW = 32
"""Packets under way; the bitmap of the header has as many bits."""
QUEUE = 64
"""Packets that wait for room in the window; further ones are dropped."""
MOST_TRIES = 10

_SEQUENCES = 1 << 16
_MOST_SESSION = 15


class PacketKind(IntEnum):
    """The `kind` of a header. A VOID takes the place of a packet that was given up."""

    ACK = 1
    DATA = 2
    VOID = 3


@dataclass(kw_only=True)
class ArqCounters:
    """Packets of one link, acknowledgements that travelled alone, and restarts of the far side.

    `sent` counts each packet once, `retransmissions` every further attempt, `dropped` those that met a full
    queue, `given_up` those whose last attempt failed. Of received packets, `bad` had errors, `duplicates`
    were there already, and `delivered` were handed on in order; `lost` are those that the far side gave up.
    """

    dropped: int = 0
    sent: int = 0
    retransmissions: int = 0
    given_up: int = 0
    acknowledgements: int = 0
    delivered: int = 0
    lost: int = 0
    bad: int = 0
    duplicates: int = 0
    restarts: int = 0


class ArqLink:
    """One end of a link from node `source` to node `target`: packets arrive in order, each at most once.

    A packet of which no acknowledgement came within `timeout_s` of its begin is sent again; so is, at once,
    one that is missing where a packet sent after it has arrived. After MOST_TRIES attempts it is given up.
    `session` distinguishes this end from one before a restart; ends that learn of a new session start over,
    with the packets that were not acknowledged. Where the far side answers nothing at all, all packets are
    given up, and later ones wait until it answers. Raises BadParameter for a session outside [1, 15].
    """

    def __init__(self, *, source: int, target: int, timeout_s: float, session: int) -> None:
        above("timeout_s", timeout_s, 0.0)
        if not 1 <= session <= _MOST_SESSION:
            raise BadParameter(f"session must lie in [1, {_MOST_SESSION}], got {session}")
        self.source, self.target, self.counters = source, target, ArqCounters()
        self._timeout_s, self._session = timeout_s, session
        self._far_session = 0
        self._has_spoken = self._is_confirmed = False
        self._hello_due_s, self._hellos = 0.0, 0
        self._owes_acknowledgement = False
        self._sender = _Sender(timeout_s, self.counters)
        self._receiver = _Receiver(self.counters)

    @property
    def is_idle(self) -> bool:
        """Whether all packets have been acknowledged or given up."""
        return self._sender.is_idle

    @property
    def room(self) -> int:
        """How many packets `offer` would take now."""
        return self._sender.room

    def offer(self, payload: bytes) -> bool:
        """Queues a packet; False if the queue is full, and the packet is dropped."""
        return self._sender.offer(payload)

    def next(self, begin_s: float) -> tuple[Header, bytes] | None:
        """What to send in a transmission that begins at `begin_s`; None if there is nothing."""
        if self._sender.is_unanswered or self._hellos == MOST_TRIES:
            self._give_up()
        if self._far_session:
            if (found := self._sender.next(begin_s)) is not None:
                sequence, payload = found
                return self._header(PacketKind.DATA if payload else PacketKind.VOID, sequence), payload
        elif not self._sender.is_idle and begin_s >= self._hello_due_s:
            self._hello_due_s, self._hellos = begin_s + self._timeout_s, self._hellos + 1
            self._owes_acknowledgement = True
        if not self._owes_acknowledgement:
            return None
        self.counters.acknowledgements += 1
        return self._header(PacketKind.ACK, 0), b""

    def receive(self, header: Header, payload: bytes | None) -> list[bytes]:
        """Takes in a packet of the far side; returns the payloads that are now in order.

        `payload` is None if it has errors.
        """
        session, known = header.flags >> 4, header.flags & _MOST_SESSION
        if session != self._far_session or (not known and self._is_confirmed):
            self._begin_session(session)
        if known == self._session and not self._has_spoken:
            self._session = self._session % _MOST_SESSION + 1  # the far side means an end before a restart
        if known != self._session:
            self._owes_acknowledgement = True  # which tells the far side the session of this one
            return []
        self._is_confirmed = True
        self._sender.acknowledge(header.next_expected, header.bitmap)
        if header.kind == PacketKind.ACK:
            return []
        if header.kind == PacketKind.DATA and not payload:
            self.counters.bad += 1
            return []
        self._owes_acknowledgement = True
        return self._receiver.put(header.sequence, payload if header.kind == PacketKind.DATA else None)

    def _give_up(self) -> None:
        """Drops all packets, and begins a new session where there was one."""
        self._sender.clear()
        self._hellos = 0
        if self._far_session:
            self._session = self._session % _MOST_SESSION + 1
            self._far_session, self._is_confirmed = 0, False

    def _begin_session(self, session: int) -> None:
        self.counters.restarts += bool(self._far_session)
        self._far_session, self._is_confirmed, self._hellos = session, False, 0
        self._sender.restart()
        self._receiver = _Receiver(self.counters)

    def _header(self, kind: PacketKind, sequence: int) -> Header:
        self._owes_acknowledgement, self._has_spoken = False, True
        return Header(
            kind=kind,
            source=self.source,
            target=self.target,
            flags=self._session << 4 | self._far_session,
            sequence=sequence,
            next_expected=self._receiver.next_expected,
            bitmap=self._receiver.bitmap,
        )


@dataclass(kw_only=True, eq=False)
class _Sent:
    """A packet in the window. `order` numbers attempts; `first_order` is that of the first one."""

    payload: bytes
    first_order: int
    order: int
    due_s: float
    tries: int = 1
    is_received: bool = False


class _Sender:
    def __init__(self, timeout_s: float, counters: ArqCounters) -> None:
        self._timeout_s, self._counters = timeout_s, counters
        self._queue: deque[bytes] = deque()
        self._window: deque[_Sent] = deque()
        self._first = 0
        self._order = 0

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._window

    @property
    def room(self) -> int:
        return max(QUEUE - len(self._queue), 0)

    def offer(self, payload: bytes) -> bool:
        if not payload:
            raise BadParameter("a packet must have at least 1 byte, got 0")
        if not self.room:
            self._counters.dropped += 1
            return False
        self._queue.append(payload)
        return True

    def next(self, begin_s: float) -> tuple[int, bytes] | None:
        """The sequence number and payload of the next packet; an empty payload is that of a VOID."""
        for index, packet in enumerate(self._window):
            if not packet.is_received and packet.due_s <= begin_s:
                self._again(packet, begin_s)
                return (self._first + index) % _SEQUENCES, packet.payload
        if not self._queue or len(self._window) == WINDOW:
            return None
        self._order += 1
        due_s = begin_s + self._timeout_s
        packet = _Sent(payload=self._queue.popleft(), first_order=self._order, order=self._order, due_s=due_s)
        self._window.append(packet)
        self._counters.sent += 1
        return (self._first + len(self._window) - 1) % _SEQUENCES, packet.payload

    def _again(self, packet: _Sent, begin_s: float) -> None:
        self._order += 1
        if packet.payload and packet.tries == MOST_TRIES:
            packet.payload = b""
            self._counters.given_up += 1
        self._counters.retransmissions += bool(packet.payload)
        packet.tries, packet.order, packet.due_s = packet.tries + 1, self._order, begin_s + self._timeout_s

    def acknowledge(self, next_expected: int, bitmap: int) -> None:
        """Marks what has arrived; what was sent before a packet that arrived, and did not, is due at once."""
        advance = (next_expected - self._first) % _SEQUENCES
        if advance > len(self._window):
            return  # an acknowledgement from before the last one
        arrived = [*range(advance), *(advance + 1 + bit for bit in range(WINDOW) if bitmap >> bit & 1)]
        newest = 0
        for index in arrived:
            if index < len(self._window) and not self._window[index].is_received:
                packet = self._window[index]
                packet.is_received = True
                # It is not known which of several attempts arrived; at least the first one was sent before.
                newest = max(newest, packet.first_order)
        for packet in self._window:
            if packet.order < newest:
                packet.due_s = 0.0
        while self._window and self._window[0].is_received:
            self._window.popleft()
            self._first = (self._first + 1) % _SEQUENCES

    @property
    def is_unanswered(self) -> bool:
        """Whether the VOID of the oldest packet, too, was sent MOST_TRIES times without an answer."""
        return bool(self._window) and self._window[0].tries >= 2 * MOST_TRIES

    def clear(self) -> None:
        """Gives up all packets."""
        self._counters.given_up += len(self._queue) + sum(bool(packet.payload) for packet in self._window)
        self._queue.clear()
        self.restart()

    def restart(self) -> None:
        """Numbers from 0 again, beginning with what was not acknowledged."""
        self._queue.extendleft(
            packet.payload for packet in reversed(self._window) if packet.payload and not packet.is_received
        )
        self._window.clear()
        self._first = 0


class _Receiver:
    def __init__(self, counters: ArqCounters) -> None:
        self._counters = counters
        self.next_expected = 0
        self._early: dict[int, bytes | None] = {}

    @property
    def bitmap(self) -> int:
        """Bit i: whether packet `next_expected` + 1 + i has arrived."""
        return sum(1 << (sequence - self.next_expected - 1) % _SEQUENCES for sequence in self._early)

    def put(self, sequence: int, payload: bytes | None) -> list[bytes]:
        """Takes in a packet (None for a VOID); returns what is now in order."""
        ahead = (sequence - self.next_expected) % _SEQUENCES
        if ahead >= WINDOW or sequence in self._early:
            self._counters.duplicates += 1
            return []
        self._early[sequence] = payload
        found = []
        while self.next_expected in self._early:
            ready = self._early.pop(self.next_expected)
            self.next_expected = (self.next_expected + 1) % _SEQUENCES
            if ready is None:
                self._counters.lost += 1
            else:
                found.append(ready)
        self._counters.delivered += len(found)
        return found
