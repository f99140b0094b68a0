"""Power over frequency and time, in memory that does not grow.

Axes: R rows of time; C columns of frequency; S segments; B samples.
"""

from typing import Any

import numpy as np

from channel.core.arrays import Array
from channel.core.units import ratio_to_db
from channel.waveform.numerology import Samples

BINS = 64
_SEGMENTS = 8
_LEAST = 1e-12
"""-120 dB: also the decibels of silence."""
_WINDOW = np.hanning(BINS).astype(np.float32)
_SCALE = float(BINS * (_WINDOW**2).sum())


class Waterfall:
    """Mean powers in at most `rows` rows of `row_s` seconds; when they are full, pairs of them are merged."""

    def __init__(self, columns: int, *, row_s: float = 0.05, rows: int = 128) -> None:
        self.row_s = row_s
        self._sum_RC, self._count_R = np.zeros((rows, columns)), np.zeros(rows)

    def add(self, time_s: float, power_C: Array) -> None:
        """Adds powers measured at this time, which does not decrease."""
        while (row := int(time_s / self.row_s)) >= self._count_R.size:
            self._merge()
        self._sum_RC[row] += power_C
        self._count_R[row] += 1.0

    def plain(self) -> dict[str, Any]:
        """`row_s` and the rows up to the last with a measurement, in whole decibels; None for one without."""
        last = int(np.flatnonzero(self._count_R)[-1]) + 1 if self._count_R.any() else 0
        rows = zip(self._sum_RC[:last], self._count_R[:last], strict=True)
        return {
            "row_s": self.row_s,
            "power_db": [_decibels(sum_C / count) if count else None for sum_C, count in rows],
        }

    def _merge(self) -> None:
        half = self._count_R.size // 2
        for values in (self._sum_RC, self._count_R):
            values[:half] = values[0::2] + values[1::2]
            values[half:] = 0.0
        self.row_s *= 2.0


def spectrum(samples_B: Samples) -> Array:
    """The powers (BINS,) from the lowest frequency to the highest, whose sum is the samples' mean power.

    The mean over at most 8 segments, evenly spread over at least BINS samples, under a Hann window.
    """
    begin_S = np.linspace(0, samples_B.size - BINS, _SEGMENTS).astype(np.int64)
    segment_SB = samples_B[begin_S[:, None] + np.arange(BINS)]
    power_SB = np.abs(np.fft.fft(segment_SB * _WINDOW, axis=1)) ** 2
    powers: Array = np.fft.fftshift(power_SB.mean(axis=0)) / _SCALE
    return powers


def _decibels(power_C: Array) -> list[int]:
    return [round(one) for one in ratio_to_db(np.maximum(power_C, _LEAST)).tolist()]
