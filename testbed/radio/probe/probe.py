"""Looks at what a radio hears: levels, losses, rate, and packets with their offsets.

Axes: B samples of a block.
"""

from dataclasses import dataclass, field

import numpy as np

from channel.core.arrays import Array, above
from channel.core.clock import Clock, WallClock
from channel.iq.delay_filters import Samples
from channel.waveform.numerology import Numerology
from channel.waveform.received import Counters, Received
from channel.waveform.receiver import Receiver
from testbed.errors import RecordingEnded
from testbed.radio.probe.sample_statistics import SampleStatistics, Spectrogram
from testbed.radio.radio import Radio, RadioCounters, Tuning
from testbed.radio.recordings.recording import Recorder, packet_fields

_BLOCK_S = 0.01
_MOST_ROWS = 300
_KEPT = 1 << 18


@dataclass(frozen=True, kw_only=True, eq=False)
class ProbeReport:
    """What was heard in `seconds` of samples, which took `wall_s` after the first block.

    `first_B` are the first samples, for trials with other settings.
    """

    tuning: Tuning
    fft_size: int
    seconds: float
    wall_s: float
    wall_samples: int
    statistics: SampleStatistics
    waterfall: Spectrogram
    radio: RadioCounters
    receiver: Counters
    packets: list[Received]
    first_B: Samples = field(repr=False)

    @property
    def measured_rate_hz(self) -> float:
        """Samples per second on the wall clock, lost ones included."""
        return self.wall_samples / self.wall_s if self.wall_s else 0.0

    @property
    def lost_share(self) -> float:
        """The share of the samples that were lost."""
        return self.radio.lost_samples / max(self.radio.lost_samples + self.statistics.count, 1)

    @property
    def snr_db(self) -> Array:
        """That of each packet."""
        return np.asarray([packet.snr_db for packet in self.packets])

    @property
    def carrier_offset_hz(self) -> float:
        """The median over the packets."""
        return float(np.median([packet.offset for packet in self.packets])) * self.tuning.rate_hz

    @property
    def clock_ppm(self) -> float:
        """The median over the packets with a payload."""
        found = [packet.clock_difference for packet in self.packets if packet.payload is not None]
        return 1e6 * float(np.median(found)) if found else 0.0


class RadioProbe:
    """Hears a radio; `recorder` gets the samples, and packets as annotations."""

    def __init__(
        self,
        radio: Radio,
        numerology: Numerology,
        *,
        recorder: Recorder | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._radio, self._recorder, self._clock = radio, recorder, clock or WallClock()
        self._numerology, self._receiver = numerology, Receiver(numerology)
        self._statistics = SampleStatistics()
        self._packets: list[Received] = []
        self._first: list[Samples] = []
        self._now = 0

    def look(self, seconds: float) -> ProbeReport:
        """Receives samples for `seconds`, or a recording to its end.

        Raises BadParameter unless they are above 0, RadioTimeout, and SamplesLost where the radio does.
        """
        rate_hz = self._radio.tuning.rate_hz
        until = round(float(above("seconds", seconds, 0.0)) * rate_hz)
        block = max(round(_BLOCK_S * rate_hz), 1)
        waterfall = Spectrogram(rate_hz, seconds / _MOST_ROWS)
        began_s, began = None, 0
        while self._now < until:
            try:
                samples_B, at = self._radio.receive(min(block, until - self._now))
            except RecordingEnded:
                break
            self._take(samples_B, at, waterfall)
            if began_s is None:
                began_s, began = self._clock.now_s(), self._now
        wall_s = 0.0 if began_s is None else self._clock.now_s() - began_s
        return ProbeReport(
            tuning=self._radio.tuning,
            fft_size=self._numerology.fft_size,
            seconds=self._now / rate_hz,
            wall_s=wall_s,
            wall_samples=self._now - began,
            statistics=self._statistics,
            waterfall=waterfall,
            radio=self._radio.counters,
            receiver=self._receiver.counters,
            packets=self._packets,
            first_B=np.concatenate([np.empty(0, dtype=np.complex64), *self._first]),
        )

    def _take(self, samples_B: Samples, at: int, waterfall: Spectrogram) -> None:
        usable_B = self._statistics.add(samples_B)
        waterfall.add(usable_B)
        if sum(piece.size for piece in self._first) < _KEPT:
            self._first.append(usable_B)
        if self._recorder is not None:
            self._recorder.append(samples_B, at)
        found = self._receiver.push(np.zeros(at - self._now, dtype=np.complex64))
        found += self._receiver.push(usable_B)
        self._now = at + samples_B.size
        self._packets += found
        if self._recorder is None:
            return
        for packet in found:
            fields = packet_fields(packet, self._radio.tuning.rate_hz)
            self._recorder.annotate(packet.position, packet.samples, fields)
