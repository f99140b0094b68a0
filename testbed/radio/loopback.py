"""Radios in this process around one IQ channel, without sockets and without a wall clock.

Axes: N nodes; B samples.
"""

import threading
from dataclasses import dataclass

import numpy as np

from channel.core.arrays import above
from channel.iq.channel import IqChannel
from channel.iq.delay_filters import Samples
from channel.iq.fifo import SampleFifo
from testbed.errors import RadioTimeout
from testbed.radio.burst_queue import BurstQueue
from testbed.radio.radio import RadioCounters, Tuning


@dataclass(frozen=True, kw_only=True)
class LoopbackSettings:
    """A radio that receives may be ahead of one that does not by `memory_s` of samples; it waits for it then,
    at most `timeout_s` on the wall clock. Raises BadParameter unless both are above 0."""

    memory_s: float = 10.0
    timeout_s: float = 5.0

    def __post_init__(self) -> None:
        above("memory_s", self.memory_s, 0.0)
        above("timeout_s", self.timeout_s, 0.0)


class LoopbackAir:
    """The channel that the radios of its nodes share; they may be used by different threads."""

    def __init__(self, channel: IqChannel, settings: LoopbackSettings | None = None) -> None:
        self.channel, self.settings = channel, settings or LoopbackSettings()
        self.changed = threading.Condition()
        self.radios = [LoopbackRadio(self, node) for node in range(channel.nodes)]

    def advance(self, count: int) -> None:
        """Lets `count` samples pass; to be called with `changed` held."""
        sent_NB = np.stack([radio.bursts.take(count) for radio in self.radios])
        for radio, heard_B in zip(self.radios, self.channel.step(sent_NB), strict=True):
            if radio.is_open:
                radio.heard.put(heard_B)

    def full_node(self, count: int, but: int) -> int | None:
        """A node, not `but`, whose memory has no room for `count` samples, or None."""
        memory = max(round(self.settings.memory_s * self.channel.rate_hz), count)
        for radio in self.radios:
            if radio.node != but and radio.is_open and len(radio.heard) + count > memory:
                return radio.node
        return None


class LoopbackRadio:
    """The radio of one node of a LoopbackAir; implements Radio.

    Time passes when a radio receives: what the others have not queued by then is silence.
    """

    def __init__(self, air: LoopbackAir, node: int) -> None:
        self._air, self.node = air, node
        self.bursts, self.heard, self.counters = BurstQueue(), SampleFifo(), RadioCounters()
        self.is_open = True
        self._received = 0

    @property
    def tuning(self) -> Tuning:
        """See Radio."""
        return Tuning(rate_hz=self._air.channel.rate_hz)

    def send(self, burst_B: Samples, at: int | None = None) -> int:
        """See Radio."""
        with self._air.changed:
            return self.bursts.put(burst_B, at)

    def receive(self, count: int) -> tuple[Samples, int]:
        """See Radio. Raises RadioTimeout if another radio's memory stays full."""
        with self._air.changed:
            while len(self.heard) < count:
                self._wait(count)
                self._air.advance(min(max(count - len(self.heard), 0), self._air.channel.block))
                self._air.changed.notify_all()
            first, self._received = self._received, self._received + count
            taken = self.heard.take(count)
            self._air.changed.notify_all()
            return taken, first

    def close(self) -> None:
        """See Radio. The node is silent from then on."""
        with self._air.changed:
            self.is_open = False
            self.heard.clear()
            self._air.changed.notify_all()

    def _wait(self, count: int) -> None:
        """Waits until the others have room for a block, or this one has heard `count` samples."""
        block, timeout_s = self._air.channel.block, self._air.settings.timeout_s

        def is_ready() -> bool:
            return self._air.full_node(block, self.node) is None or len(self.heard) >= count

        if not self._air.changed.wait_for(is_ready, timeout_s):
            slow = self._air.full_node(block, self.node)
            raise RadioTimeout(
                f"node {self.node} waited {timeout_s:g} s for node {slow}, which does not take what it hears"
            )
