"""One node's pair of ZMQ sockets, in the convention of srsRAN's and GNU Radio's ZMQ radios.

The node's transmitter binds a REP socket, which is asked for samples; its receiver connects a REQ socket and
asks for samples. Messages are little-endian samples without header or time: time is the number of samples.
A request has 1 byte (srsRAN), or is the most samples of the answer in 4 bytes (GNU Radio's REQ source).

DEALER and ROUTER, which speak the same protocol as REQ and REP, do not block if a peer dies between request
and answer.
"""

import struct
from collections import deque
from collections.abc import Callable, Container
from contextlib import suppress
from typing import Any

from channel.core.errors import BadParameter
from channel.iq.air_report import PortCounts
from channel.iq.delay_filters import Samples
from channel.iq.fifo import SampleFifo
from channel.iq.sample_format import SampleFormat, samples_of

ASK = b"\xff"
_COUNT = struct.Struct("<I")
_MAX_MESSAGE_BYTES = 1 << 25
"""Above srsRAN's largest message, 3,072,000 samples."""


def import_zmq() -> Any:
    """The module zmq. Raises BadParameter where pyzmq is not installed."""
    try:
        import zmq
        import zmq.utils.monitor
    except ImportError:
        raise BadParameter("ZMQ radios need the library pyzmq: pip install 'splitfl[radio]'") from None
    return zmq


class ZmqPort:
    """The sockets and queues of node `node`.

    It asks the transmitter at `sends_at` while it has fewer than `wanted` samples, and listens at `hears_at`.
    `is_lost`: its transmitter gave nothing for too long; `is_deaf`: nobody takes what it hears.
    Samples have the format `form`. Raises BadParameter if `hears_at` is in use.
    """

    def __init__(
        self,
        context: Any,
        node: int,
        sends_at: str,
        hears_at: str,
        tell: Callable[[str], None],
        form: SampleFormat,
    ) -> None:
        self._zmq = import_zmq()
        self.node, self._tell, self._form = node, tell, form
        self.sent, self.heard = SampleFifo(), SampleFifo()
        self.counts = PortCounts()
        self.is_connected = self.is_lost = self.is_deaf = False
        self.has_sent = self.has_asked = False
        self._is_pending = False
        self._said: set[str] = set()
        self._requests: deque[tuple[bytes, int | None]] = deque()
        self.sender = context.socket(self._zmq.DEALER)
        self.sender.setsockopt(self._zmq.IMMEDIATE, 1)
        self.sender.setsockopt(self._zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        self.sender.setsockopt(self._zmq.RECONNECT_IVL, 50)
        self.events = self.sender.get_monitor_socket(
            self._zmq.EVENT_HANDSHAKE_SUCCEEDED | self._zmq.EVENT_DISCONNECTED
        )
        self.listener = context.socket(self._zmq.ROUTER)
        self.listener.setsockopt(self._zmq.ROUTER_MANDATORY, 1)
        self.listener.setsockopt(self._zmq.MAXMSGSIZE, _MAX_MESSAGE_BYTES)
        try:
            self.listener.bind(hears_at)
        except self._zmq.ZMQError as error:
            raise BadParameter(f"cannot listen on {hears_at} for node {node}: {error.strerror}") from None
        self.sender.connect(sends_at)

    @property
    def listens(self) -> bool:
        """Whether samples are kept for it: from its first sign of life on, until it is deaf."""
        return (self.has_sent or self.has_asked) and not self.is_deaf

    @property
    def waits(self) -> bool:
        """Whether the receiver has asked and got no answer yet."""
        return bool(self._requests)

    def take_in(self, ready: Container[Any]) -> None:
        """Takes a message or event from each of its sockets that is ready."""
        if self.events in ready:
            event = self._zmq.utils.monitor.recv_monitor_message(self.events)["event"]
            self.is_connected = event == self._zmq.EVENT_HANDSHAKE_SUCCEEDED
            self._is_pending = False  # a request of another connection is never answered
        if self.sender in ready:
            self._take_samples(b"".join(self.sender.recv_multipart()[1:]))
        if self.listener in ready:
            identity, *_, request = self.listener.recv_multipart()
            most = _COUNT.unpack(request)[0] if len(request) == _COUNT.size else None
            self._requests.append((identity, most))
            self.has_asked, self.is_deaf = True, False

    def ask(self, wanted: int) -> None:
        """Asks the transmitter for samples if there are fewer than `wanted`."""
        if self.is_connected and not self._is_pending and len(self.sent) < wanted:
            with suppress(self._zmq.Again):  # the connection is lost, and its event will come
                self.sender.send_multipart([b"", ASK], self._zmq.DONTWAIT)
                self._is_pending = True

    def answer(self) -> None:
        """Answers the receiver, if it waits and there is something."""
        while self._requests and len(self.heard):
            identity, most = self._requests.popleft()
            count = min(len(self.heard), most or len(self.heard))
            payload = self._form.encode(self.heard.take(count))
            try:
                self.listener.send_multipart([identity, b"", payload], self._zmq.DONTWAIT)
                self.counts.received += count
            except self._zmq.ZMQError:  # that receiver is gone
                self.counts.dropped += count

    def keep(self, heard_B: Samples, memory: int) -> None:
        """Queues what the node hears. A node that fills the memory and never asked does not listen at all."""
        if not self.has_asked and len(self.heard) + heard_B.size > memory:
            self.is_deaf = True
            self.heard.clear()
        if self.listens:
            self.heard.put(heard_B)
        elif self.has_asked:
            self.counts.dropped += heard_B.size

    def lose(self, reason: str) -> None:
        """From now on the node sends zeros, until it sends again."""
        self.is_lost = True
        self.counts.losses += 1
        self._tell(f"node {self.node} {reason}: zeros in its place")

    def deafen(self) -> None:
        """From now on what the node hears is dropped, until it asks again."""
        self.is_deaf = True
        self.counts.dropped += self.heard.clear()
        self._tell(f"node {self.node} does not take what it hears: dropped until it asks again")

    def say_once(self, what: str) -> None:
        """Tells something about this node, but not twice."""
        if what not in self._said:
            self._said.add(what)
            self._tell(f"node {self.node}: {what}")

    def _take_samples(self, payload: bytes) -> None:
        self._is_pending = False
        samples, wrong = samples_of(payload, self._form)
        if wrong:
            self.say_once(wrong)
        if self.is_lost:
            self.is_lost = False
            self.counts.dropped += self.heard.clear()
            self._tell(f"node {self.node} sends again")
        self.has_sent = True
        self.counts.sent += samples.size
        self.sent.put(samples)
