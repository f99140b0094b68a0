"""The front end of a node's radio: oscillator, mixer, converter.

Axes: B samples of a call.
"""

from dataclasses import dataclass, replace

import numpy as np

from channel.core.arrays import Array, at_least, within
from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from channel.iq.delay_filters import Samples, unit_phasor

_MAX_BITS = 24
"""The bits of a float32's fraction."""
_MAX_PPM = 200.0


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """What a node's radio does to the samples that it sends and receives; by default nothing.

    `cfo_hz` is the offset of its oscillator, up for what is sent and down for what is received, and
    `linewidth_hz` the full -3 dB width of its Lorentzian spectrum (a free-running oscillator, whose phase is
    a Wiener process: E[exp j(phi(t + tau) - phi(t))] = exp(-pi linewidth |tau|)). `sample_rate_ppm` is the
    offset of its sample clock. `iq_gain_db` is the gain of Q over I and `iq_phase_deg` the error of their
    right angle, in both directions. With `clips`, I and Q are limited to [-1, 1] in both directions.
    `adc_bits` of 0 is no quantisation; else what is received is clipped and rounded to 2^bits levels.
    `full_scale_dbm` is the power at the antenna that is received as magnitude 1; by default 12 dB above the
    strongest mean power of another node at time 0. Raises BadParameter for values out of range.
    """

    cfo_hz: float = 0.0
    sample_rate_ppm: float = 0.0
    linewidth_hz: float = 0.0
    iq_gain_db: float = 0.0
    iq_phase_deg: float = 0.0
    clips: bool = False
    adc_bits: int = 0
    full_scale_dbm: float | None = None

    def __post_init__(self) -> None:
        at_least("cfo_hz", abs(self.cfo_hz), 0.0)
        within("sample_rate_ppm", self.sample_rate_ppm, -_MAX_PPM, _MAX_PPM)
        at_least("linewidth_hz", self.linewidth_hz, 0.0)
        within("iq_gain_db", self.iq_gain_db, -20.0, 20.0)
        within("iq_phase_deg", self.iq_phase_deg, -45.0, 45.0)
        within("full_scale_dbm", self.full_scale_dbm or 0.0, -250.0, 100.0)
        if int(self.adc_bits) != self.adc_bits or not (self.adc_bits == 0 or 1 <= self.adc_bits <= _MAX_BITS):
            raise BadParameter(
                f"adc_bits must be 0 (none) or a whole number in [1, {_MAX_BITS}], got {self.adc_bits}"
            )

    @property
    def is_ideal(self) -> bool:
        """Whether samples pass unchanged."""
        return replace(self, full_scale_dbm=None, sample_rate_ppm=0.0) == FrontEnd()

    @property
    def image_ratio(self) -> float:
        """The power of the mirror image over that of the signal: |nu / mu|^2 of `imbalance`."""
        direct, image = self._mixer
        return abs(image / direct) ** 2

    def transmitted(self, sent_B: Samples, rotation_B: Samples | None) -> Samples:
        """What leaves the antenna; `rotation_B` is the oscillator's phasor, None for 1."""
        radiated = self._unbalanced(_clipped(sent_B) if self.clips else sent_B)
        return radiated if rotation_B is None else radiated * rotation_B

    def received(self, arrived_B: Samples, rotation_B: Samples | None) -> Samples:
        """The samples that the converter delivers."""
        mixed = arrived_B if rotation_B is None else arrived_B * rotation_B.conj()
        mixed = self._unbalanced(mixed)
        if self.adc_bits:
            return _quantised(mixed, self.adc_bits)
        return _clipped(mixed) if self.clips else mixed

    @property
    def _mixer(self) -> tuple[complex, complex]:
        """The mixer is y = mu x + nu x*, with mu = (1 + a exp(j phi)) / 2 and nu = (1 - a exp(-j phi)) / 2.

        These are I' = I and Q' = a (Q cos phi + I sin phi).
        """
        gain = float(db_to_ratio(self.iq_gain_db / 2.0))
        turn = complex(np.exp(1j * np.deg2rad(self.iq_phase_deg)))
        return (1.0 + gain * turn) / 2.0, (1.0 - gain * turn.conjugate()) / 2.0

    def _unbalanced(self, samples_B: Samples) -> Samples:
        if not (self.iq_gain_db or self.iq_phase_deg):
            return samples_B
        direct, image = self._mixer
        return np.complex64(direct) * samples_B + np.complex64(image) * samples_B.conj()


class Oscillator:
    """The phasor of a node's oscillator, as a stream from sample 0 on."""

    def __init__(self, front_end: FrontEnd, *, rate_hz: float, seed: int, node: int) -> None:
        self._cycles_per_sample = front_end.cfo_hz / rate_hz
        self._deviation = float(np.sqrt(2.0 * np.pi * front_end.linewidth_hz / rate_hz)) / (2.0 * np.pi)
        self._rng = stream(seed, "iq", "phase-noise", node)
        self._walk = 0.0
        self._now = 0

    def rotation(self, count: int) -> Samples | None:
        """The next `count` values of exp(j phase), None if the phase is always 0."""
        if not (self._cycles_per_sample or self._deviation):
            return None
        cycles_B: Array = np.arange(self._now, self._now + count, dtype=np.float64) * self._cycles_per_sample
        if self._deviation:
            # From the last value on, so that sums are formed in the same order however samples are cut.
            steps = self._deviation * self._rng.standard_normal(count)
            walk = np.cumsum(np.concatenate([[self._walk], steps]))
            cycles_B, self._walk = cycles_B + walk[1:], float(walk[-1])
        self._now += count
        return unit_phasor(cycles_B)


def _clipped(samples_B: Samples) -> Samples:
    parts = np.ascontiguousarray(samples_B).view(np.float32)
    return np.clip(parts, -1.0, 1.0).view(np.complex64)


def _quantised(samples_B: Samples, bits: int) -> Samples:
    """Rounded to 2^bits levels from -1 to 1 - 2^(1 - bits) of I and Q each."""
    steps = np.float32(2.0 ** (bits - 1))
    parts = np.ascontiguousarray(samples_B).view(np.float32)
    return (np.clip(np.round(parts * steps), -steps, steps - 1.0) / steps).view(np.complex64)
