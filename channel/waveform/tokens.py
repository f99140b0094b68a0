"""Messages of tokens between two nodes: each row once, in a code block of its own, and the rest by ARQ.

No I/O; times are passed in. A message is a reliable part and rows of equal length, such as the tokens of an
activation. Its rows are sent first, without retransmission, as many as fit a packet; the reliable part
follows by `ArqLink`, in segments. The link below does not reorder packets, so that the last segment also
means that no row of the message is still in flight: the receiver needs no timer.

Axes: U rows of a message, N bytes of a row.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import above
from channel.core.errors import BadParameter
from channel.waveform.arq import ArqLink
from channel.waveform.header import MOST_BYTES, MOST_UNITS, Header
from channel.waveform.layout import MOST_PACKET_BYTES
from channel.waveform.received import Received
from channel.waveform.segments import Place, Segments, pack_segments

TOKENS = 4
"""The `kind` of a header whose packet has rows; the others are those of ARQ.

`flags` is the sender's session, `sequence` the message and `bitmap` the position of the packet's first row.
"""

Rows = NDArray[np.uint8]

_MOST_OPEN = 4
"""Messages whose rows are kept until their reliable part arrives; the oldest are dropped."""
_MESSAGES = 1 << 16


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenMessage:
    """A message as received: rows (U, N) that did not arrive are zeros, `arrived_U` names those that did."""

    reliable: bytes
    row_UN: Rows
    arrived_U: NDArray[np.bool_]


@dataclass(kw_only=True)
class TokenCounters:
    """What one end has sent, received and dropped.

    `rows_expired` were not sent by their deadline. Of received messages `messages_lost` miss a part that ARQ
    gave up; `other_version` and `malformed` count packets whose checksums hold, but not their version or
    their lengths.
    """

    messages_sent: int = 0
    rows_sent: int = 0
    row_packets: int = 0
    rows_expired: int = 0
    messages: int = 0
    rows: int = 0
    rows_lost: int = 0
    messages_lost: int = 0
    other_version: int = 0
    malformed: int = 0


@dataclass(kw_only=True, eq=False)
class _Outgoing:
    number: int
    row_UN: Rows
    segments: deque[bytes]
    due_s: float | None = None
    sent: int = 0


class TokenLink:
    """One end of a link of messages; both ends send, and receive in order what is not lost.

    `segment_bytes` is the longest payload that is sent by ARQ and `packet_bytes` that of a packet of rows,
    which has at least one row. Rows that are not on the air `deadline_s` after the first one of their message
    are never sent. `session` distinguishes an end from one before a restart. Messages of the far side of
    more than `most_bytes` are dropped. Raises BadParameter for values out of range.
    """

    def __init__(
        self,
        *,
        source: int,
        target: int,
        timeout_s: float,
        session: int,
        segment_bytes: int = 1400,
        packet_bytes: int = 6000,
        deadline_s: float = 1.0,
        most_bytes: int = 1 << 30,
    ) -> None:
        above("deadline_s", deadline_s, 0.0)
        if packet_bytes < 1 or packet_bytes > MOST_PACKET_BYTES:
            raise BadParameter(f"packet_bytes must lie in [1, {MOST_PACKET_BYTES}], got {packet_bytes}")
        self.arq = ArqLink(source=source, target=target, timeout_s=timeout_s, session=session)
        self.counters = TokenCounters()
        self._session, self._number = session, 0
        self._segment_bytes, self._packet_bytes = segment_bytes, packet_bytes
        self._deadline_s = deadline_s
        self._waiting: deque[_Outgoing] = deque()
        self._segments = Segments(self.counters, most_bytes)
        self._heard: dict[tuple[int, int], list[tuple[int, Received]]] = {}

    @property
    def is_idle(self) -> bool:
        """Whether all rows were sent or have expired, and all else was acknowledged or given up."""
        return not self._waiting and self.arq.is_idle

    def offer(self, reliable: bytes, row_UN: Rows) -> None:
        """Queues a message; raises BadParameter for rows that are not bytes (U, N), or empty, or too long."""
        if row_UN.ndim != 2 or row_UN.dtype != np.uint8:
            raise BadParameter(f"rows must be bytes (U, N), got {row_UN.dtype} {row_UN.shape}")
        if len(row_UN) and not 1 <= row_UN.shape[1] <= MOST_BYTES:
            raise BadParameter(f"a row must have 1 to {MOST_BYTES} bytes, got {row_UN.shape[1]}")
        place = Place(
            session=self._session, message=self._number, units=len(row_UN), unit_bytes=row_UN.shape[1]
        )
        segments = deque(pack_segments(place, reliable, self._segment_bytes))
        self._waiting.append(_Outgoing(number=self._number, row_UN=row_UN, segments=segments))
        self._number = (self._number + 1) % _MESSAGES
        self.counters.messages_sent += 1

    def next(self, begin_s: float) -> tuple[Header, bytes | Rows] | None:
        """Rows or bytes to send in a transmission that begins at `begin_s`; None if there is nothing."""
        if (packet := self.arq.next(begin_s)) is not None:
            return packet
        while self._waiting:
            first = self._waiting[0]
            if (rows := self._next_rows(first, begin_s)) is not None:
                return rows
            while first.segments and self.arq.room:
                self.arq.offer(first.segments.popleft())
            if first.segments:
                break
            self._waiting.popleft()
        return self.arq.next(begin_s)

    def receive(self, received: Received) -> list[TokenMessage]:
        """Takes in a packet of the far side; returns the messages that are now complete, lost rows aside."""
        if received.header.kind == TOKENS:
            self._keep(received)
            return []
        found = []
        for payload in self.arq.receive(received.header, received.payload):
            if (whole := self._segments.put(payload)) is not None:
                found.append(self._message(*whole))
        return found

    def forget(self) -> None:
        """Drops what has arrived of messages that are not complete: for when none is on its way."""
        self._heard.clear()
        self._segments.clear()

    def _next_rows(self, message: _Outgoing, begin_s: float) -> tuple[Header, Rows] | None:
        left = len(message.row_UN) - message.sent
        if not left:
            return None
        message.due_s = begin_s + self._deadline_s if message.due_s is None else message.due_s
        if begin_s >= message.due_s:
            self.counters.rows_expired += left
            message.sent += left
            return None
        first, count = message.sent, min(max(self._packet_bytes // message.row_UN.shape[1], 1), MOST_UNITS)
        row_UN = message.row_UN[first : first + count]
        message.sent += len(row_UN)
        self.counters.rows_sent += len(row_UN)
        self.counters.row_packets += 1
        header = Header(
            kind=TOKENS,
            source=self.arq.source,
            target=self.arq.target,
            flags=self._session,
            sequence=message.number,
            bitmap=first,
        )
        return header, row_UN

    def _keep(self, received: Received) -> None:
        """Keeps the rows of a packet until the reliable part of their message arrives."""
        if received.units_UN is None:
            self.counters.malformed += 1
            return
        key = received.header.flags, received.header.sequence
        while key not in self._heard and len(self._heard) >= _MOST_OPEN:
            del self._heard[next(iter(self._heard))]
        self._heard.setdefault(key, []).append((received.header.bitmap, received))

    def _message(self, place: Place, reliable: bytes) -> TokenMessage:
        row_UN = np.zeros((place.units, place.unit_bytes), dtype=np.uint8)
        arrived_U = np.zeros(place.units, dtype=np.bool_)
        for first, packet in self._heard.pop((place.session, place.message), []):
            assert packet.units_UN is not None
            assert packet.is_whole_U is not None
            heard_UN, whole_U = packet.units_UN, packet.is_whole_U
            if heard_UN.shape[1] != place.unit_bytes or first + len(heard_UN) > place.units:
                self.counters.malformed += 1
                continue
            row_UN[first : first + len(heard_UN)][whole_U] = heard_UN[whole_U]
            arrived_U[first : first + len(heard_UN)] |= whole_U
        self.counters.messages += 1
        self.counters.rows += int(arrived_U.sum())
        self.counters.rows_lost += int((~arrived_U).sum())
        return TokenMessage(reliable=reliable, row_UN=row_UN, arrived_U=arrived_U)
