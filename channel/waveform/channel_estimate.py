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
        response_K = projector_KK @ known_SK.mean(axis=0)
        return cls(
            numerology=numerology,
            response_K=response_K,
            signal=_power(response_K) / response_K.size,
            noise=_power(known_SK - response_K) / (known_SK.size - numerology.prefix),
        )

    @property
    def snr_db(self) -> float:
        """The mean signal-to-noise ratio of the used subcarriers."""
        return float(ratio_to_db(self.signal / max(self.noise, 1e-10 * self.signal)))

    @cached_property
    def _inverse_D(self) -> Carriers:
        response_D = self.response_K[self.numerology.data_D]
        least = _LEAST_RESPONSE * np.sqrt(self.signal)
        response_D[np.abs(response_D) < least] = least
        return 1.0 / response_D

    @cached_property
    def _weight_D(self) -> NDArray[np.float32]:
        response_D = self.response_K[self.numerology.data_D]
        noise = max(self.noise, _LEAST_NOISE * self.signal)
        weight_D: NDArray[np.float32] = (response_D.real**2 + response_D.imag**2) / np.float32(noise)
        return weight_D

    def equalised(
        self, value_SK: Carriers, phase_S: Array, drift: tuple[Array, Array] | None = None
    ) -> Points:
        """The data (S, D) of symbols with these phases in radians, divided by the response.

        `drift` are the radians by which a drift of timing has turned each used subcarrier in the first
        symbol, and those that each further symbol adds.
        """
        data_D = self.numerology.data_D
        turn_S = np.exp(-1j * phase_S).astype(np.complex64)
        start_D, step_D = self._inverse_D, np.ones_like(self._inverse_D)
        if drift is not None:
            first_D, more_D = (np.exp(-1j * turn_K[data_D]).astype(np.complex64) for turn_K in drift)
            start_D, step_D = start_D * first_D, more_D
        return _turned(value_SK, data_D, turn_S, start_D, step_D)

    def ratios(self, point_SD: Points, modulation_order: int) -> NDArray[np.float32]:
        """The log-likelihood ratios of the unscrambled bits of equalised points, in their order."""
        weight_S = np.tile(self._weight_D, point_SD.shape[0])
        sign_E = scrambling_signs(point_SD.size * modulation_order)
        least = least_amplitude(modulation_order)
        return max_log_ratios(point_SD.ravel(), weight_S, sign_E, modulation_order, least)


@compiled
def _turned(
    value_SK: Carriers, data_D: NDArray[np.int64], turn_S: Carriers, start_D: Carriers, step_D: Carriers
) -> Points:
    """Every data subcarrier times `turn_S`, `start_D` and as many `step_D` as symbols precede it."""
    point_SD = np.empty((turn_S.size, data_D.size), dtype=np.complex64)
    factor_D = start_D.copy()
    for symbol in range(turn_S.size):
        for data in range(data_D.size):
            point_SD[symbol, data] = value_SK[symbol, data_D[data]] * turn_S[symbol] * factor_D[data]
            factor_D[data] *= step_D[data]
    return point_SD


def _power(value: Carriers) -> float:
    return float(np.vdot(value, value).real)
