"""The packet modem on a radio: packets are sent at their times, and received block by block."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import above
from channel.waveform.header import Header, PayloadFormat
from channel.waveform.modulator import Modulator
from channel.waveform.numerology import Numerology
from channel.waveform.received import Counters, Received
from channel.waveform.receiver import Receiver
from splitfl.core.errors import ConfigError
from testbed.errors import LateBurst
from testbed.radio.radio import Radio, RadioCounters
from testbed.radio.slots import SlotTable
from testbed.radio.waterfall import BINS, Waterfall, spectrum

Units = NDArray[np.uint8]
"""The rows (U, N) of a packet, a code block each."""

Following = Callable[[float], tuple[Header, bytes | Units] | None]
"""Returns the next packet to send, with a payload or units, or None; takes the time at which it begins."""


@dataclass(frozen=True, kw_only=True)
class ModemSettings:
    """`mcs` is a row of TS 38.214 table 5.1.3.1-1, `longest` the bytes of the longest payload.

    Samples are received in blocks of `block_s`. Raises BadParameter for values out of range.
    """

    mcs: int = 16
    fft_size: int = 64
    longest: int = 1400
    block_s: float = 0.005

    def __post_init__(self) -> None:
        above("block_s", self.block_s, 0.0)
        self.longest_burst  # noqa: B018 (raises for an MCS and a size that are not offered)

    @property
    def numerology(self) -> Numerology:
        """The subcarriers."""
        return Numerology(fft_size=self.fft_size)

    @property
    def longest_burst(self) -> int:
        """The samples of the longest packet."""
        return Modulator(self.numerology).length(PayloadFormat(self.mcs, 0, self.longest))

    def timeout_s(self, rate_hz: float, cycle: int = 0) -> float:
        """When a packet without an acknowledgement is sent again: 4 packets, 2 blocks and a slot cycle."""
        return (4 * self.longest_burst + cycle) / rate_hz + 2.0 * self.block_s


class Modem(Protocol):
    """Sends and receives packets block by block, on samples or without.

    `sent` counts samples, `counters` what its receiver met; `heard` is the spectrum over time.
    """

    settings: ModemSettings
    rate_hz: float
    sent: int
    late_bursts: int
    heard: Waterfall

    @property
    def now_s(self) -> float:
        """The time of the next sample to be received."""
        ...

    @property
    def timeout_s(self) -> float:
        """When a packet without an acknowledgement is sent again."""
        ...

    @property
    def counters(self) -> Counters: ...

    @property
    def radio_counters(self) -> RadioCounters: ...

    def receive(self) -> list[Received]:
        """Waits for a block of samples; returns the packets that end in it."""
        ...

    def skip(self) -> list[Received]:
        """Waits for a block of samples in which there are no packets for this node; returns none."""
        ...

    def send_due(self, following: Following) -> None:
        """Queues packets of `following` until there is enough to send during the next block, or no more."""
        ...

    def close(self) -> None: ...


_LEAD_BLOCKS = 2
"""How far ahead bursts for a time are queued: the radio is ahead of the samples that have been received."""


class PacketModem:
    """Implements Modem for node `node` on this radio, whose samples are the time."""

    def __init__(
        self, radio: Radio, settings: ModemSettings, *, node: int = 0, slots: SlotTable | None = None
    ) -> None:
        self.settings, self.rate_hz, self.late_bursts, self.sent = settings, radio.tuning.rate_hz, 0, 0
        self.receiver, self.heard = Receiver(settings.numerology), Waterfall(BINS)
        self._radio, self._node, self._slots = radio, node, slots
        self._modulator = Modulator(settings.numerology)
        self._block = max(1, round(settings.block_s * self.rate_hz))
        self._now = self._free = 0
        self._lead = 0 if slots is None else _LEAD_BLOCKS * self._block
        self._longest = settings.longest_burst
        if slots is not None:
            slots.opening(node, 0, self._longest)

    @property
    def now_s(self) -> float:
        """The time of the next sample to be received."""
        return self._now / self.rate_hz

    @property
    def counters(self) -> Counters:
        """See Modem."""
        return self.receiver.counters

    @property
    def radio_counters(self) -> RadioCounters:
        """What went wrong with the radio."""
        return self._radio.counters

    @property
    def timeout_s(self) -> float:
        """See ModemSettings."""
        return self.settings.timeout_s(self.rate_hz, self._slots.cycle if self._slots else 0)

    def receive(self) -> list[Received]:
        """Waits for a block of samples; returns the packets that end in it.

        Samples that the radio lost are silence to the receiver.
        """
        samples, at = self._radio.receive(self._block)
        if samples.size >= BINS:
            self.heard.add(at / self.rate_hz, spectrum(samples))
        found: list[Received] = []
        while self._now < at:
            missing = min(at - self._now, self._block)
            self._now += missing
            found += self.receiver.push(np.zeros(missing, dtype=np.complex64))
        self._now = at + samples.size
        return found + self.receiver.push(samples)

    def close(self) -> None:
        """Closes the radio."""
        self._radio.close()

    def skip(self) -> list[Received]:
        """Waits for a block of samples, and looks for no packets in it: there are none to return."""
        samples, at = self._radio.receive(self._block)
        self._now = at + samples.size
        return []

    def send_due(self, following: Following) -> None:
        """See Modem."""
        while (begin := self._opening()) < self._now + self._lead + self._block:
            packet = following(begin / self.rate_hz)
            if packet is None:
                return
            self._send(*packet, begin)

    def check(self) -> None:
        """Decodes a longest packet of its own without the radio; also compiles what is needed for that.

        Raises ConfigError if that fails.
        """
        payload = bytes(self.settings.longest)
        samples = self._modulator.packet(Header(), payload, mcs=self.settings.mcs)
        padding = np.zeros(self.settings.fft_size, dtype=np.complex64)
        found = Receiver(self.settings.numerology).push(np.concatenate([padding, samples, padding]))
        if [one.payload for one in found] != [payload]:
            raise ConfigError("the modem cannot decode a packet of its own")

    def _opening(self) -> int:
        free = max(self._now + self._lead, self._free)
        return free if self._slots is None else self._slots.opening(self._node, free, self._longest)

    def _send(self, header: Header, payload: bytes | Units, begin: int) -> None:
        if isinstance(payload, bytes):
            samples = self._modulator.packet(header, payload, mcs=self.settings.mcs)
        else:
            samples = self._modulator.unit_packet(header, payload, mcs=self.settings.mcs)
        try:
            begin = self._radio.send(samples, begin if self._slots is not None else None)
        except LateBurst:
            self.late_bursts += 1
            return
        self._free = begin + samples.size
        self.sent += samples.size
