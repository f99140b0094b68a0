"""The preamble: a short symbol eight times, then a long one twice behind a double prefix."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from channel.waveform.numerology import Numerology, Samples

SHORT_SYMBOLS = 8


@dataclass(frozen=True)
class Preamble:
    """What is known to the receiver at the start of every packet.

    The short symbols have half the length of an OFDM symbol, as only even subcarriers are used: a carrier
    offset of up to one subcarrier spacing turns one against the next by less than half a turn (Schmidl & Cox,
    IEEE Trans. Commun. 45(12), 1997). Both sequences are chirps (Zadoff-Chu), of constant amplitude over
    frequency and nearly so over time.
    """

    numerology: Numerology

    @property
    def short(self) -> int:
        """The samples of a short symbol."""
        return self.numerology.fft_size // 2

    @property
    def shorts(self) -> int:
        """The samples of all short symbols."""
        return SHORT_SYMBOLS * self.short

    @property
    def guard(self) -> int:
        """The samples of the prefix of the long symbols."""
        return 2 * self.numerology.prefix

    @property
    def length(self) -> int:
        """All samples of the preamble."""
        return self.shorts + self.guard + 2 * self.numerology.fft_size

    @cached_property
    def long_K(self) -> NDArray[np.complex64]:
        """The values of the used subcarriers in a long symbol."""
        return _chirp(self.numerology.carrier_K)

    @cached_property
    def long_N(self) -> Samples:
        """A long symbol without prefix."""
        samples_N: Samples = self.numerology.modulate(self.long_K[None])[0]
        return samples_N

    @cached_property
    def samples(self) -> Samples:
        """The preamble (length,), with mean power 1."""
        carrier_K = self.numerology.carrier_K
        is_even_K = carrier_K % 2 == 0
        value_K = np.where(is_even_K, np.sqrt(2.0), 0.0) * _chirp(carrier_K // 2)
        short = self.numerology.modulate(value_K[None].astype(np.complex64))[0, : self.short]
        parts = [np.tile(short, SHORT_SYMBOLS), self.long_N[-self.guard :], self.long_N, self.long_N]
        samples: Samples = np.concatenate(parts)
        return samples


def _chirp(index_K: NDArray[np.int64]) -> NDArray[np.complex64]:
    """exp(-j pi k (k + 1) / (2 k_max + 1)): a Zadoff-Chu sequence of root 1."""
    phase_K = np.pi * index_K * (index_K + 1) / (2 * index_K.max() + 1)
    chirp_K: NDArray[np.complex64] = np.exp(-1j * phase_K).astype(np.complex64)
    return chirp_K
