"""Timing, carrier offset and the first channel estimate, from the two long symbols of a preamble."""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
from numpy.typing import NDArray

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
        size, first = self.numerology.fft_size, self.span(peak)[0]
        samples = samples * turning(-peak.offset, samples.size)
        found = np.correlate(samples, self.preamble.long_N, mode="valid")
        power = np.abs(found) ** 2
        choices = 2 * self.reach
        strongest = int(np.argmax(power[:choices] + power[size : size + choices]))
        begin = max(0, strongest - self.numerology.prefix)
        between = np.vdot(samples[begin : strongest + size], samples[begin + size : strongest + 2 * size])
        finer = float(np.angle(between)) / size
        samples *= turning(-finer, samples.size)
        start = strongest - self._early(samples, strongest)
        if start < 0:
            return None
        long_2K = self._long_symbols(samples, start)
        estimate_K = long_2K.mean(axis=0)
        within = float(np.linalg.norm(self.projector_KK @ estimate_K))
        if within < max(_LEAST_SHARE * float(np.linalg.norm(estimate_K)), _LEAST_AMPLITUDE):
            return None
        return Timing(
            start=first + start,
            offset=peak.offset + finer,
            first=first + strongest - self.preamble.guard - self.preamble.shorts,
            long_2K=long_2K * np.exp(1j * (peak.offset + finer) * start).astype(np.complex64),
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
        return self.numerology.demodulate(both) * self.preamble.long_K.conj()

    def _early(self, samples: Samples, strongest: int) -> int:
        """By how many samples before the strongest path the symbols are cut, 0 to prefix - 1."""
        size, prefix = self.numerology.fft_size, self.numerology.prefix
        grid_N = np.zeros(size, dtype=np.complex64)
        grid_N[self.numerology.carrier_K] = self._long_symbols(samples, strongest).mean(axis=0)
        power = np.abs(scipy.fft.ifft(grid_N)) ** 2
        around = np.concatenate([power[-prefix + 1 :], power[:prefix]])
        # Paths at the edges of the prefix count half: where all fits in, it lies in the middle.
        weight = np.ones(prefix)
        weight[: prefix // 8] = weight[-(prefix // 8) :] = 0.5
        within = np.correlate(around, weight, mode="valid")
        return prefix - 1 - int(np.argmax(within))


def turning(radians: float, count: int) -> Samples:
    """exp(j radians n) for n = 0 to count - 1."""
    samples: Samples = np.exp(1j * radians * np.arange(count)).astype(np.complex64)
    return samples
