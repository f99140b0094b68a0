"""Levels and spectra of a stream of samples, in memory that does not grow with it.

Axes: B samples of a call; W windows; F frequencies, the lowest first; T rows of time.
"""

from dataclasses import dataclass, field

import numpy as np

from channel.core.arrays import Array
from channel.core.units import ratio_to_db
from channel.iq.delay_filters import Samples

_WINDOW = 64
_MOST_WINDOWS = 65_536
_CLIPPED = 0.999
HUGE = 1e6
"""Parts beyond it are no samples in any unit."""
BINS = 256
_MOST_ROWS = 400
LEAST_POWER = 1e-30


@dataclass(kw_only=True)
class SampleStatistics:
    """Counts and sums: `clipped` samples have a part at full scale or beyond it.

    `unusable` ones are not finite or beyond HUGE, and count as 0; `peak` is the largest finite part.
    """

    count: int = 0
    clipped: int = 0
    unusable: int = 0
    peak: float = 0.0
    _sum: complex = 0.0
    _energy: float = 0.0
    _windows: list[Array] = field(default_factory=list)
    _kept: int = 0

    def add(self, samples_B: Samples) -> Samples:
        """Takes samples in; returns them with zeros in place of unusable ones."""
        parts_B = np.maximum(np.abs(samples_B.real), np.abs(samples_B.imag))
        is_usable_B = parts_B <= HUGE
        self.count += samples_B.size
        self.peak = max(self.peak, float(parts_B[np.isfinite(parts_B)].max(initial=0.0)))
        if not is_usable_B.all():
            self.unusable += int(np.sum(~is_usable_B))
            samples_B = np.where(is_usable_B, samples_B, np.complex64(0.0))
        self.clipped += int(np.sum(parts_B >= _CLIPPED))
        wide_B = samples_B.astype(np.complex128)
        power_B = wide_B.real**2 + wide_B.imag**2
        self._sum += complex(wide_B.sum())
        self._energy += float(power_B.sum())
        self._keep(power_B)
        return samples_B

    @property
    def level_db(self) -> float:
        """The mean power in dB of full scale."""
        return _db(self._energy / max(self.count, 1))

    @property
    def offset_db(self) -> float:
        """The power of the mean (the DC offset) in dB of full scale."""
        return _db(abs(self._sum / max(self.count, 1)) ** 2)

    @property
    def floor_db(self) -> float:
        """The power that a tenth of the windows of 64 samples are below, in dB of full scale."""
        return self._quantile_db(0.1)

    @property
    def top_db(self) -> float:
        """The power that one in a hundred windows is above, in dB of full scale."""
        return self._quantile_db(0.99)

    def _quantile_db(self, share: float) -> float:
        power_W = np.concatenate([np.empty(0), *self._windows])
        return _db(float(np.quantile(power_W, share)) if power_W.size else 0.0)

    def _keep(self, power_B: Array) -> None:
        whole = power_B.size // _WINDOW
        if self._kept < _MOST_WINDOWS and whole:
            self._windows.append(power_B[: whole * _WINDOW].reshape(whole, _WINDOW).mean(axis=1))
            self._kept += whole


class Spectrogram:
    """The power over frequency and time: a row for each `row_s`, the mean of the spectra in it."""

    def __init__(self, rate_hz: float, row_s: float) -> None:
        self.rate_hz = rate_hz
        self._size = max(round(row_s * rate_hz), BINS)
        self._taper = np.hanning(BINS).astype(np.float32)
        self._taper /= np.sqrt(np.sum(self._taper**2))
        self._rows: list[Array] = []
        self._open_F, self._spectra, self._filled = np.zeros(BINS), 0, 0

    def add(self, samples_B: Samples) -> None:
        """Takes samples in; what is left behind the last whole spectrum of a call is left out."""
        whole = samples_B.size // BINS
        if not whole or len(self._rows) >= _MOST_ROWS:
            return
        pieces = samples_B[: whole * BINS].reshape(whole, BINS) * self._taper
        self._open_F += np.sum(np.abs(np.fft.fftshift(np.fft.fft(pieces), axes=1)) ** 2, axis=0)
        self._spectra += whole
        self._filled += samples_B.size
        if self._filled >= self._size:
            self._rows.append(self._open_F / self._spectra)
            self._open_F, self._spectra, self._filled = np.zeros(BINS), 0, 0

    @property
    def frequency_F(self) -> Array:
        """The frequencies in Hz, relative to the carrier."""
        found: Array = np.fft.fftshift(np.fft.fftfreq(BINS, 1.0 / self.rate_hz))
        return found

    @property
    def power_db_TF(self) -> Array:
        """The power in each bin in dB of full scale."""
        rows = self._rows or [self._open_F / max(self._spectra, 1)]
        found: Array = ratio_to_db(np.maximum(np.stack(rows), LEAST_POWER))
        return found


def _db(power: float) -> float:
    return float(ratio_to_db(max(power, LEAST_POWER)))
