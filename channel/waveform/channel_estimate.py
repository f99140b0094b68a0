"""The channel of a packet, and points and log-likelihood ratios behind it."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.core.units import ratio_to_db
from channel.waveform import phase
from channel.waveform.mapping import Points, max_log_ratios

Carriers = NDArray[np.complex64]

_LEAST_NOISE = 1e-4
"""Relative to the signal: beyond 40 dB ratios would only outweigh those of the filler bits."""


class ChannelEstimate(NamedTuple):
    """Frequency response and noise power of the used subcarriers, at time 0 and phase 0 of a packet.

    `slope` is the carrier offset that is left, in radians per symbol; time is counted in symbols.
    """

    response_K: Carriers
    noise: float
    phase: float
    slope: float

    @classmethod
    def of(cls, known_SK: Carriers, time_S: Array, guess_K: Carriers, projector_KK: Carriers) -> Self:
        """The estimate from received values divided by the sent ones, which must have magnitude 1.

        Phases come from the sums against `guess_K`, an earlier estimate. The mean over symbols is projected
        onto channels no longer than the cyclic prefix; what does not fit counts as noise.
        """
        start, slope = phase.line(known_SK @ guess_K.conj(), time_S)
        aligned_SK = known_SK * np.exp(-1j * (start + slope * time_S))[:, None].astype(np.complex64)
        response_K = projector_KK @ aligned_SK.mean(axis=0)
        fitted = round(float(np.trace(projector_KK).real))
        noise = float(np.sum(np.abs(aligned_SK - response_K) ** 2)) / (known_SK.size - fitted)
        return cls(response_K, noise, start, slope)

    @property
    def signal(self) -> float:
        """The mean power of the response."""
        return float(np.mean(np.abs(self.response_K) ** 2))

    @property
    def snr_db(self) -> float:
        """The mean signal-to-noise ratio of the used subcarriers."""
        return float(ratio_to_db(max(self.signal, 1e-30) / max(self.noise, 1e-30)))

    def equalised(self, value_SD: Carriers, phase_S: Array, carrier_D: NDArray[np.int64]) -> Points:
        """Received values of some subcarriers, divided by the response at the phases of their symbols."""
        point_SD: Points = value_SD * (1.0 / self._safe(carrier_D))
        point_SD *= np.exp(-1j * phase_S).astype(np.complex64)[:, None]
        return point_SD

    def ratios(
        self, point_SD: Points, carrier_D: NDArray[np.int64], modulation_order: int
    ) -> NDArray[np.float32]:
        """The log-likelihood ratios of the bits of equalised points, in the order of the points."""
        noise = max(self.noise, _LEAST_NOISE * self.signal)
        weight_D = (np.abs(self._safe(carrier_D)) ** 2 / noise).astype(np.float32)
        weight_S = np.broadcast_to(weight_D, point_SD.shape).ravel()
        return max_log_ratios(point_SD.ravel(), weight_S, modulation_order)

    def _safe(self, carrier_D: NDArray[np.int64]) -> Carriers:
        """The response, at least 1e-6 of its root mean square."""
        response_D = self.response_K[carrier_D]
        least = np.float32(1e-6 * np.sqrt(self.signal))
        safe: Carriers = np.where(np.abs(response_D) < least, least, response_D)
        return safe
