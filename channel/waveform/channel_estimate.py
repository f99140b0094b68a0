"""The channel of a packet, and points and log-likelihood ratios behind it."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.coding.compiled import compiled
from channel.core.arrays import Array
from channel.core.units import ratio_to_db
from channel.waveform.mapping import Points, least_amplitude, max_log_ratios
from channel.waveform.numerology import Numerology
from channel.waveform.scrambling import scrambling_signs

Carriers = NDArray[np.complex64]

_LEAST_NOISE = 1e-4
"""Relative to the signal: beyond 40 dB ratios would only outweigh those of the filler bits."""
_LEAST_RESPONSE = 1e-6
"""Relative to the mean amplitude: a subcarrier below it is as good as absent."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelEstimate:
    """Frequency response of the used subcarriers, and the mean power of signal and noise on them."""

    numerology: Numerology
    response_K: Carriers
    signal: float
    noise: float

    @classmethod
    def of(cls, known_SK: Carriers, projector_KK: Carriers, numerology: Numerology) -> Self:
        """The estimate from symbols in phase with each other, divided by values sent of magnitude 1.

        Their mean is projected onto channels no longer than the cyclic prefix; what does not fit is noise.
        """
        response_K, signal, noise = _estimated(known_SK, projector_KK, numerology.prefix)
        return cls(numerology=numerology, response_K=response_K, signal=signal, noise=noise)

    @property
    def snr_db(self) -> float:
        """The mean signal-to-noise ratio of the used subcarriers."""
        return float(ratio_to_db(self.signal / max(self.noise, 1e-10 * self.signal)))

    @cached_property
    def _inverse_and_weight_D(self) -> tuple[Carriers, NDArray[np.float32]]:
        """What data are multiplied with, and their signal-to-noise ratios."""
        return _inverted(self.response_K, self.numerology.data_D, self.signal, self.noise)

    def equalised(self, value_SK: Carriers, phase_S: Array, drift_K: Array, since: float = 0.0) -> Points:
        """The data (S, D) of symbols with these phases in radians, divided by the response.

        `drift_K` are the radians by which a drift of timing turns each used subcarrier in a symbol; the first
        symbol has been turned for `since` symbols.
        """
        inverse_D = self._inverse_and_weight_D[0]
        return _turned(value_SK, self.numerology.data_D, phase_S, inverse_D, drift_K, since)

    def ratios(self, point_SD: Points, modulation_order: int) -> NDArray[np.float32]:
        """The log-likelihood ratios of the unscrambled bits of equalised points, in their order."""
        sign_E = scrambling_signs(point_SD.size * modulation_order)
        least = least_amplitude(modulation_order)
        weight_D = self._inverse_and_weight_D[1]
        return max_log_ratios(point_SD.ravel(), weight_D, sign_E, modulation_order, least)


@compiled
def _turned(
    value_SK: Carriers,
    data_D: NDArray[np.int64],
    phase_S: Array,
    inverse_D: Carriers,
    drift_K: Array,
    since: float,
) -> Points:
    """Every data subcarrier times `inverse_D`, turned back by `phase_S` and the drift up to its symbol."""
    point_SD = np.empty((phase_S.size, data_D.size), dtype=np.complex64)
    factor_D, step_D = np.empty_like(inverse_D), np.empty_like(inverse_D)
    for data in range(data_D.size):
        drift = drift_K[data_D[data]]
        factor_D[data] = inverse_D[data] * np.complex64(np.exp(-1j * since * drift))
        step_D[data] = np.complex64(np.exp(-1j * drift))
    for symbol in range(phase_S.size):
        turn = np.complex64(np.exp(-1j * phase_S[symbol]))
        for data in range(data_D.size):
            point_SD[symbol, data] = value_SK[symbol, data_D[data]] * turn * factor_D[data]
            factor_D[data] *= step_D[data]
    return point_SD


@compiled
def _estimated(known_SK: Carriers, projector_KK: Carriers, prefix: int) -> tuple[Carriers, float, float]:
    """The response (K,), and the mean powers of signal and noise."""
    symbols, used = known_SK.shape
    mean_K, response_K = np.zeros(used, dtype=np.complex64), np.zeros(used, dtype=np.complex64)
    for symbol in range(symbols):
        mean_K += known_SK[symbol]
    mean_K /= np.float32(symbols)
    signal = noise = 0.0
    for row in range(used):
        total = np.complex64(0.0)
        for column in range(used):
            total += projector_KK[row, column] * mean_K[column]
        response_K[row] = total
        signal += float(total.real**2 + total.imag**2)
        for symbol in range(symbols):
            rest = known_SK[symbol, row] - total
            noise += float(rest.real**2 + rest.imag**2)
    return response_K, signal / used, noise / (symbols * used - prefix)


@compiled
def _inverted(
    response_K: Carriers, data_D: NDArray[np.int64], signal: float, noise: float
) -> tuple[Carriers, NDArray[np.float32]]:
    """The inverses (D,) of the response, and the signal-to-noise ratios (D,)."""
    inverse_D, weight_D = np.empty(data_D.size, dtype=np.complex64), np.empty(data_D.size, dtype=np.float32)
    least = np.float32(_LEAST_RESPONSE * np.sqrt(signal))
    weakest = np.float32(max(noise, _LEAST_NOISE * signal))
    for data in range(data_D.size):
        one = response_K[data_D[data]]
        weight_D[data] = (one.real**2 + one.imag**2) / weakest
        inverse_D[data] = np.complex64(1.0) / (one if abs(one) >= least else np.complex64(least))
    return inverse_D, weight_D
