"""Timing, carrier offset and the first channel estimate, from the two long symbols of a preamble."""

import cmath
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from channel.coding.compiled import compiled
from channel.core.arrays import Array
from channel.waveform.detection import Peak
from channel.waveform.numerology import Numerology, Samples
from channel.waveform.preamble import Preamble

Carriers = NDArray[np.complex64]

_LEAST_SHARE = 0.7
"""The least share of an estimate's amplitude that lies within the prefix; noise alone has about 0.6 there."""
_LEAST_AMPLITUDE = 1e-15
"""Keeps squares within the range of single precision."""


class Timing(NamedTuple):
    """The start of a packet. `start` is the first sample of the first long symbol as the receiver cuts it."""

    start: int
    offset: float
    """The carrier frequency offset in radians per sample."""
    first: int
    """The position of the packet's first sample on the strongest path."""
    long_2K: Carriers
    """The used subcarriers of both long symbols, divided by the values sent; the offset is 0 at `start`."""


@dataclass(frozen=True)
class Synchroniser:
    """Synchronises to a preamble; positions are relative to the stream."""

    preamble: Preamble

    @property
    def numerology(self) -> Numerology:
        """The numerology of the preamble."""
        return self.preamble.numerology

    @property
    def reach(self) -> int:
        """The samples by which the peak of the detector may be off."""
        return 5 * self.numerology.fft_size // 8

    def span(self, peak: Peak) -> tuple[int, int]:
        """The first position needed, and the first not needed any more."""
        expected = peak.position + 1 + self.preamble.guard
        return expected - self.reach, expected + self.reach + 2 * self.numerology.fft_size

    def timing(self, samples: Samples, peak: Peak) -> Timing | None:
        """The timing from the samples of `span`; None if they contain no long symbols.

        The strongest path is found by correlation with the long symbol, without the phase between the two.
        The symbols are then cut so that as much of the channel's energy as possible lies within the prefix.
        """
        first, prefix = self.span(peak)[0], self.numerology.prefix
        samples = _turned_back(samples, peak.offset)
        found = np.correlate(samples, self.preamble.long_N, mode="valid")
        strongest, finer = _strongest(samples, found, self.preamble.long_N.size, prefix, 2 * self.reach)
        samples = _turned_back(samples, finer)
        start = strongest - _early(samples, strongest, self.preamble.long_N, prefix)
        if start < 0:
            return None
        long_2K = self._long_symbols(samples, start)
        if not _is_within(long_2K, self.projector_KK):
            return None
        return Timing(
            start=first + start,
            offset=peak.offset + finer,
            first=first + strongest - self.preamble.guard - self.preamble.shorts,
            long_2K=long_2K * np.complex64(cmath.exp(1j * (peak.offset + finer) * start)),
        )

    @cached_property
    def projector_KK(self) -> Carriers:
        """The orthogonal projection of a frequency response onto channels no longer than the prefix.

        Least squares of channel taps at 0 to prefix - 1 samples (van de Beek et al., IEEE VTC 1995).
        """
        turn = self.numerology.carrier_K[:, None] * np.arange(self.numerology.prefix)[None]
        basis, _ = np.linalg.qr(np.exp(-2j * np.pi * turn / self.numerology.fft_size))
        projector: Carriers = (basis @ basis.conj().T).astype(np.complex64)
        return projector

    def _long_symbols(self, samples: Samples, start: int) -> Carriers:
        both = samples[start : start + 2 * self.numerology.fft_size].reshape(2, -1)
        return self.numerology.demodulate(both) * self._known_K

    @cached_property
    def _known_K(self) -> Carriers:
        return self.preamble.long_K.conj()


@compiled
def turning(radians: float, count: int) -> Samples:
    """exp(j radians n) for n = 0 to count - 1."""
    samples = np.empty(count, dtype=np.complex64)
    for at in range(count):
        samples[at] = np.exp(1j * radians * at)
    return samples


@compiled
def _turned_back(samples: Samples, radians: float) -> Samples:
    """The samples without this carrier offset, in radians per sample."""
    turned = np.empty_like(samples)
    for at in range(samples.size):
        turned[at] = samples[at] * np.complex64(np.exp(-1j * radians * at))
    return turned


@compiled
def turn_back(value_SK: Carriers, phase_S: Array) -> None:
    """Turns each row back by its phase in radians, in place."""
    for symbol in range(phase_S.size):
        turn = np.complex64(np.exp(-1j * phase_S[symbol]))
        for used in range(value_SK.shape[1]):
            value_SK[symbol, used] *= turn


@compiled
def _strongest(samples: Samples, found: Carriers, size: int, prefix: int, choices: int) -> tuple[int, float]:
    """Where both long symbols begin on the strongest path, and what is left of the carrier offset."""
    strongest, most = 0, -1.0
    for at in range(choices):
        one, two = found[at], found[at + size]
        power = one.real**2 + one.imag**2 + two.real**2 + two.imag**2
        if power > most:
            strongest, most = at, power
    between = np.complex128(0.0)
    for at in range(max(0, strongest - prefix), strongest + size):
        between += np.conj(samples[at]) * samples[at + size]
    return strongest, np.angle(between) / size


@compiled
def _early(samples: Samples, strongest: int, long_N: Samples, prefix: int) -> int:
    """By how many samples before the strongest path the symbols are cut, 0 to prefix - 1.

    The channel's paths are circular correlations with the long symbol. Those at the edges of the prefix count
    half: where all fits in, it lies in the middle.
    """
    size = long_N.size
    mean_N = samples[strongest : strongest + size] + samples[strongest + size : strongest + 2 * size]
    power = np.empty(2 * prefix - 1)
    for lag in range(power.size):
        path = np.complex64(0.0)
        at = (lag - prefix + 1) % size
        for sample in range(size):
            path += mean_N[at] * np.conj(long_N[sample])
            at = at + 1 if at + 1 < size else 0
        power[lag] = path.real**2 + path.imag**2
    early, most = 0, -1.0
    for first in range(prefix):
        energy = 0.0
        for tap in range(prefix):
            is_edge = tap < prefix // 8 or tap >= prefix - prefix // 8
            energy += power[first + tap] * (0.5 if is_edge else 1.0)
        if energy > most:
            early, most = prefix - 1 - first, energy
    return early


@compiled
def _is_within(long_2K: Carriers, projector_KK: Carriers) -> bool:
    """Whether the mean of both symbols is a channel that lies within the prefix."""
    all_power = within_power = 0.0
    mean_K = (long_2K[0] + long_2K[1]) * np.float32(0.5)
    for row in range(mean_K.size):
        total = np.complex64(0.0)
        for column in range(mean_K.size):
            total += projector_KK[row, column] * mean_K[column]
        within_power += float(total.real**2 + total.imag**2)
        all_power += float(mean_K[row].real ** 2 + mean_K[row].imag ** 2)
    return bool(np.sqrt(within_power) >= max(_LEAST_SHARE * np.sqrt(all_power), _LEAST_AMPLITUDE))
