"""A radio behind ZMQ sockets in srsRAN's convention: the emulated air, GNU Radio, another radio program.

Its transmitter is a REP socket that it binds, its receiver a REQ socket that connects; time is the number
of samples. Sending and receiving advance together: before samples up to n are received,
samples up to n are sent, silence included, as srsRAN does.

Axes: B samples.
"""

from dataclasses import dataclass
from typing import Any

from channel.core.arrays import above, at_least
from channel.core.clock import WallClock
from channel.iq.delay_filters import Samples
from channel.iq.fifo import SampleFifo
from channel.iq.sample_format import format_of, samples_of
from channel.iq.zmq_port import ASK, import_zmq
from splitfl.core.errors import ConfigError
from testbed.errors import RadioTimeout
from testbed.radio.backoff import scaled
from testbed.radio.burst_queue import BurstQueue
from testbed.radio.radio import RadioCounters, Tuning


@dataclass(frozen=True, kw_only=True)
class ZmqSettings:
    """`sends_at` is bound, such as tcp://*:2000 or tcp://127.0.0.1:2000; `hears_at` is connected to.

    `rate_hz` must be that of the far side, which cannot be asked, and so must `sample_format`: fc32, or sc16,
    whose samples have parts of at most 1. What is sent is `backoff_db` lower. Every wait ends after
    `timeout_s`. Raises BadParameter for values out of range.
    """

    sends_at: str
    hears_at: str
    rate_hz: float
    timeout_s: float = 5.0
    sample_format: str = "fc32"
    backoff_db: float = 0.0

    def __post_init__(self) -> None:
        format_of(self.sample_format)
        at_least("backoff_db", self.backoff_db, 0.0)
        above("rate_hz", self.rate_hz, 0.0)
        above("timeout_s", self.timeout_s, 0.0)


def settings_of(node: int, *, port: int, rate_hz: float, host: str = "127.0.0.1") -> ZmqSettings:
    """The settings of a node of `splitfl channel air --port PORT`."""
    return ZmqSettings(
        sends_at=f"tcp://{host}:{port + 2 * node}",
        hears_at=f"tcp://{host}:{port + 2 * node + 1}",
        rate_hz=rate_hz,
    )


class ZmqRadio:
    """Implements Radio. Raises ConfigError for an address that cannot be used, BadParameter without pyzmq."""

    def __init__(self, settings: ZmqSettings) -> None:
        self._zmq = import_zmq()
        self.settings, self._clock, self.counters = settings, WallClock(), RadioCounters()
        self._form = format_of(settings.sample_format)
        self._bursts, self._heard = BurstQueue(), SampleFifo()
        self._unsent = SampleFifo()
        self._received = 0
        self._is_asked = self._is_pending = False
        self._context = self._zmq.Context()
        self._sender, self._receiver = (
            self._context.socket(self._zmq.REP),
            self._context.socket(self._zmq.REQ),
        )
        try:
            self._sender.bind(settings.sends_at)
            self._receiver.connect(settings.hears_at)
        except self._zmq.ZMQError as error:
            self.close()
            raise ConfigError(
                f"cannot use {settings.sends_at} and {settings.hears_at}: {error.strerror}"
            ) from None
        self._poller = self._zmq.Poller()
        for socket in (self._sender, self._receiver):
            self._poller.register(socket, self._zmq.POLLIN)

    @property
    def tuning(self) -> Tuning:
        """See Radio; what is at the other side of the sockets is not known."""
        return Tuning(rate_hz=self.settings.rate_hz)

    def send(self, burst_B: Samples, at: int | None = None) -> int:
        """See Radio. Raises ConfigError for a burst that does not fit into the format."""
        return self._bursts.put(scaled(burst_B, self.settings.backoff_db, self._form), at)

    def receive(self, count: int) -> tuple[Samples, int]:
        """See Radio."""
        self._unsent.put(self._bursts.take(max(self._received + count - self._bursts.now, 0)))
        self._answer()
        self._take(dict(self._poller.poll(0)))
        until_s = self._clock.now_s() + self.settings.timeout_s
        while len(self._heard) < count:
            self._ask()
            left_s = until_s - self._clock.now_s()
            if left_s <= 0.0:
                raise RadioTimeout(
                    f"{self.settings.hears_at} gave {len(self._heard)} of {count} samples "
                    f"in {self.settings.timeout_s:g} s"
                )
            self._take(dict(self._poller.poll(1000.0 * left_s)))
        first, self._received = self._received, self._received + count
        return self._heard.take(count), first

    def close(self) -> None:
        """See Radio."""
        self._context.destroy(linger=0)

    def _ask(self) -> None:
        if not self._is_pending:
            self._receiver.send(ASK)
            self._is_pending = True

    def _answer(self) -> None:
        """Hands over what is to be sent, if it was asked for."""
        if self._is_asked and len(self._unsent):
            self._sender.send(self._form.encode(self._unsent.take(len(self._unsent))))
            self._is_asked = False

    def _take(self, ready: dict[Any, int]) -> None:
        if self._sender in ready:
            self._sender.recv()
            self._is_asked = True
            self._answer()
        if self._receiver in ready:
            samples, wrong = samples_of(self._receiver.recv(), self._form)
            self._is_pending = False
            if wrong:
                raise ConfigError(f"{self.settings.hears_at} gave {wrong}")
            self._heard.put(samples)
