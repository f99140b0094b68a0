"""Static channels of a few taps, for samples and for the packet level."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.core.units import db_to_ratio, ratio_to_db
from channel.waveform.numerology import Numerology, Samples


@dataclass(frozen=True)
class Multipath:
    """Taps at whole samples, each a delay in samples, decibels and a phase in radians; power 1 in all."""

    name: str
    taps: tuple[tuple[int, float, float], ...]

    @property
    def impulse(self) -> NDArray[np.complex128]:
        """The impulse response."""
        response = np.zeros(1 + max(delay for delay, _, _ in self.taps), dtype=np.complex128)
        for delay, power_db, phase in self.taps:
            response[delay] = np.sqrt(db_to_ratio(power_db)) * np.exp(1j * phase)
        normed: NDArray[np.complex128] = response / np.linalg.norm(response)
        return normed

    def gain_db(self, numerology: Numerology) -> Array:
        """The power gain in decibels of the data subcarriers."""
        carrier_D = numerology.carrier_K[numerology.data_D]
        delay = np.arange(self.impulse.size)
        turn = np.exp(-2j * np.pi * carrier_D[:, None] * delay / numerology.fft_size)
        return ratio_to_db(np.abs(turn @ self.impulse) ** 2)

    def heard(
        self, samples: Samples, snr_db: float, numerology: Numerology, rng: np.random.Generator
    ) -> Samples:
        """The samples behind the channel, with white noise for a mean E_s/N0 of a used subcarrier.

        Before and after them are 300 and 150 samples of noise; the carrier is off by CARRIER_OFFSET.
        """
        sent = np.convolve(np.pad(samples, (300, 150)), self.impulse)
        sent *= np.exp(2j * np.pi * CARRIER_OFFSET * np.arange(sent.size))
        noise_power = numerology.fft_size / numerology.carrier_K.size / db_to_ratio(snr_db)
        noise = rng.standard_normal(2 * sent.size, dtype=np.float32).view(np.complex64)
        heard: Samples = (sent + np.sqrt(noise_power / 2.0) * noise).astype(np.complex64)
        return heard


CARRIER_OFFSET = 1e-3
"""Cycles per sample: 6 % of the spacing of 64 subcarriers."""

FLAT = Multipath("flat", ((0, 0.0, 0.0),))
THREE_TAPS = Multipath("three taps", ((0, 0.0, 0.0), (2, -6.0, 2.0), (5, -12.0, 1.0)))
"""Between the strongest and the weakest subcarrier lie 16 dB; the weakest is 13 dB below the mean."""
