"""Subcarriers and symbol lengths of the waveform.

Axes: N samples of a symbol without its prefix, K used subcarriers, D data and P pilot subcarriers, S symbols.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
from numpy.typing import NDArray

from channel.coding.compiled import compiled
from channel.core.errors import BadParameter

Samples = NDArray[np.complex64]

FFT_SIZES = (64, 128, 256)
_PILOT_SPACING, _FIRST_PILOT = 13, 7


@dataclass(frozen=True, kw_only=True)
class Numerology:
    """OFDM with `fft_size` subcarriers, spaced by sample rate / fft_size.

    Of 64 subcarriers 52 are used, 26 on either side of the empty one in the middle, and 4 of them are pilots;
    the cyclic prefix has 16 samples. 128 and 256 have the same proportions. Raises BadParameter for other
    sizes.
    """

    fft_size: int = 64

    def __post_init__(self) -> None:
        if self.fft_size not in FFT_SIZES:
            sizes = ", ".join(map(str, FFT_SIZES))
            raise BadParameter(f"fft_size must be one of {sizes}, got {self.fft_size}")

    @property
    def prefix(self) -> int:
        """The samples of the cyclic prefix."""
        return self.fft_size // 4

    @property
    def symbol(self) -> int:
        """The samples of a symbol with its prefix."""
        return self.fft_size + self.prefix

    @cached_property
    def carrier_K(self) -> NDArray[np.int64]:
        """The used subcarriers, from the lowest frequency to the highest, as multiples of the spacing."""
        side = np.arange(1, 26 * self.fft_size // 64 + 1)
        return np.concatenate([-side[::-1], side])

    @cached_property
    def pilot_P(self) -> NDArray[np.int64]:
        """The positions of the pilots among the used subcarriers."""
        is_pilot_K = np.abs(self.carrier_K) % _PILOT_SPACING == _FIRST_PILOT
        return np.flatnonzero(is_pilot_K)

    @cached_property
    def data_D(self) -> NDArray[np.int64]:
        """The positions of the data among the used subcarriers."""
        return np.setdiff1d(np.arange(self.carrier_K.size), self.pilot_P)

    @cached_property
    def amplitude(self) -> float:
        """The factor of an inverse FFT after which used subcarriers of power 1 give samples of power 1."""
        return float(self.fft_size / np.sqrt(self.carrier_K.size))

    def modulate(self, value_SK: NDArray[np.complex64]) -> Samples:
        """Samples (S, N) without prefix, of power 1 where the subcarriers have power 1."""
        grid_SN = np.zeros((value_SK.shape[0], self.fft_size), dtype=np.complex64)
        grid_SN[:, self.carrier_K] = value_SK
        samples_SN: Samples = scipy.fft.ifft(grid_SN, axis=1)
        return samples_SN * np.float32(self.amplitude)

    def demodulate(self, samples_SN: Samples) -> NDArray[np.complex64]:
        """The used subcarriers (S, K), in the scale of `modulate`."""
        return _used(scipy.fft.fft(samples_SN, axis=1), self.carrier_K, np.float32(1.0 / self.amplitude))


@compiled
def _used(grid_SN: Samples, carrier_K: NDArray[np.int64], scale: np.float32) -> Samples:
    """The used subcarriers (S, K) of all, times the scale."""
    value_SK = np.empty((grid_SN.shape[0], carrier_K.size), dtype=np.complex64)
    for symbol in range(grid_SN.shape[0]):
        for used in range(carrier_K.size):
            value_SK[symbol, used] = grid_SN[symbol, carrier_K[used]] * scale
    return value_SK


SMALLEST = Numerology()
"""64 subcarriers."""
