"""One node of an air in a process of its own: a thread exchanges messages of tokens with other nodes."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from channel.core.clock import WallClock
from channel.core.closing import Closing
from channel.waveform.header import Header
from channel.waveform.received import Received
from channel.waveform.tokens import Rows, TokenLink, TokenMessage
from splitfl.core.errors import PeerLost, SplitflError, Timeout
from splitfl.transport.radio.spec import RadioSettings
from splitfl.wire.frame import MAX_FRAME_BYTES
from testbed.radio.link_monitor import LinkMonitor
from testbed.radio.modem import Modem
from testbed.radio.tokens.records import Record, latest_rows
from testbed.radio.tokens.sending import Sending, SendingMeter

INTERVAL_S: Final = 1.0
"""Of samples: a row of a record."""

_SESSIONS = 15
_STOP_S = 1.0


def token_link(modem: Modem, own: RadioSettings, *, source: int, target: int, session: int = 1) -> TokenLink:
    """A link of these settings."""
    return TokenLink(
        source=source,
        target=target,
        timeout_s=modem.timeout_s,
        session=session,
        segment_bytes=own.packet_bytes,
        packet_bytes=own.token_packet_bytes,
        deadline_s=own.token_deadline_s,
        most_bytes=MAX_FRAME_BYTES,
    )


class TokenNode(Closing):
    """Sends and receives, from any thread, while a thread of its own lets samples pass."""

    def __init__(self, modem: Modem, own: RadioSettings, node: int, others: Iterable[int]) -> None:
        self._modem, self._node, self._turn = modem, node, 0
        session = 1 + int(np.random.default_rng().integers(_SESSIONS))
        self._links = {
            one: token_link(modem, own, source=node, target=one, session=session) for one in others
        }
        counters = {one: link.arq.counters for one, link in self._links.items()}
        self._clock = WallClock()
        self._monitor = LinkMonitor(modem, counters, INTERVAL_S, self._clock)
        self._rows: list[dict[str, Any]] = []
        self._began_s: float | None = None
        self._now_s = 0.0
        self._received: dict[int, deque[TokenMessage]] = defaultdict(deque)
        self._changed = threading.Condition()
        self._failure: SplitflError | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"radio-{node}", daemon=True)
        self._thread.start()

    @property
    def rate_hz(self) -> float:
        """The sample rate."""
        return self._modem.rate_hz

    def send(self, target: int, reliable: bytes, row_UN: Rows, timeout_s: float) -> Sending:
        """Sends a message and waits until its reliable part is acknowledged, or given up.

        Raises Timeout if that takes longer, and PeerLost if the radio has failed.
        """
        link, counters = self._links[target], self._links[target].arq.counters
        with self._changed:
            began_s, given_up = self._modem.now_s, counters.given_up
            meter = SendingMeter(counters, self._modem)
            link.offer(reliable, row_UN)
            self._wait(lambda: link.is_idle, timeout_s, f"a message to node {target} was not acknowledged")
            is_lost = counters.given_up > given_up
            return meter.sending(is_lost=is_lost, took_s=self._modem.now_s - began_s)

    def receive(self, source: int, timeout_s: float) -> TokenMessage:
        """The next message of this node. Raises Timeout and PeerLost as `send`."""
        with self._changed:
            self._wait(lambda: bool(self._received[source]), timeout_s, f"nothing came from node {source}")
            return self._received[source].popleft()

    def forget(self, source: int) -> None:
        """Drops what has arrived of this node, as before its restart; none may be on its way."""
        with self._changed:
            self._received[source].clear()
            self._links[source].forget()

    def record(self) -> Record:
        """What this node heard and sent: `final` in all, `rows` by interval; samples passed for `wall_s`."""
        with self._changed:
            self._end_interval()
            wall_s = 0.0 if self._began_s is None else self._now_s - self._began_s
            return {"wall_s": wall_s, "final": self._monitor.final(), "rows": list(self._rows)}

    def latest(self) -> list[dict[str, Any]]:
        """The last row of each of its links."""
        with self._changed:
            return latest_rows(self._rows)

    def close(self) -> None:
        """Ends the thread, its radio, and all waits; a thread that waits for the air is left to it."""
        with self._changed:
            self._is_closed = True
            self._failure = self._failure or PeerLost("it was closed")
            self._changed.notify_all()
        self._thread.join(_STOP_S)

    def _wait(self, is_so: Callable[[], bool], timeout_s: float, complaint: str) -> None:
        self._changed.wait_for(lambda: is_so() or self._failure is not None, timeout_s)
        if self._failure is not None:
            raise PeerLost(f"the radio of node {self._node} has failed: {self._failure}")
        if not is_so():
            raise Timeout(f"{complaint} within {timeout_s:g} s")

    def _run(self) -> None:
        try:
            while not self._is_closed:
                with self._changed:
                    self._modem.send_due(self._following)
                packets = self._modem.receive()
                with self._changed:
                    self._now_s = self._clock.now_s()
                    self._began_s = self._now_s if self._began_s is None else self._began_s
                    for packet in packets:
                        self._take(packet)
                    if self._monitor.is_due:
                        self._end_interval()
                    self._changed.notify_all()
        except SplitflError as error:
            with self._changed:
                self._failure = error
                self._changed.notify_all()
        finally:
            self._modem.close()

    def _following(self, begin_s: float) -> tuple[Header, bytes | Rows] | None:
        """The next packet of a link; the links take turns."""
        links = list(self._links.values())
        for index in range(len(links)):
            if (packet := links[(self._turn + index) % len(links)].next(begin_s)) is not None:
                self._turn += index + 1
                return packet
        return None

    def _end_interval(self) -> None:
        self._rows += [{"at": self._node, **row} for row in self._monitor.interval()]

    def _take(self, packet: Received) -> None:
        link = self._links.get(packet.header.source)
        if packet.header.target == self._node and link is not None:
            messages = self._monitor.nodes[packet.header.source].take(packet, link, self._modem.now_s)
            self._received[packet.header.source].extend(messages)
