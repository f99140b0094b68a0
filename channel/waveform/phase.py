"""Phases of OFDM symbols, from what is known of their subcarriers.

`sum_S` is, for each symbol, the sum over its known subcarriers of the received value times the conjugate of
the expected one: its angle is the maximum-likelihood estimate of a common phase, its magnitude the weight.
"""

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
from numpy.typing import NDArray

from channel.core.arrays import Array

Sums = NDArray[np.complex64]

_MOST_SLOPE = 0.5
"""Radians per symbol that are left of the carrier offset, at most."""
_SMOOTHED = 9
"""Symbols over which pilots are averaged."""
_GRID = np.linspace(-_MOST_SLOPE, _MOST_SLOPE, 65)


def line(sum_S: Sums, time_S: Array, turn_GS: NDArray[np.complex64]) -> Array:
    """The phases (S,) at these times on the most likely straight line; `turn_GS` are the `turns` of them."""
    power = np.abs(turn_GS @ sum_S)
    mean_S = time_S * (_GRID[0] + (_GRID[1] - _GRID[0]) * _vertex(power))
    phase_S: Array = mean_S + np.angle(np.sum(sum_S * np.exp(-1j * mean_S)))
    return phase_S


def turns(time_S: Array) -> NDArray[np.complex64]:
    """For every slope in question what turns the phases at these times back."""
    turn_GS: NDArray[np.complex64] = np.exp(-1j * _GRID[:, None] * time_S).astype(np.complex64)
    return turn_GS


def tracked(sum_S: Sums) -> Array:
    """The phases (S,) of consecutive symbols: a mean slope, and around it the average over nine symbols."""
    size = scipy.fft.next_fast_len(4 * sum_S.size)
    most = max(1, int(_MOST_SLOPE * size / (2 * np.pi)))
    spectrum = scipy.fft.fft(sum_S, size)
    near = np.abs(np.concatenate([spectrum[-most:], spectrum[: most + 1]]))
    slope = (_vertex(near) - most) * 2 * np.pi / size
    mean_S = slope * np.arange(sum_S.size)
    # Of the full convolution, the part of `sum_S` even if that is shorter than the average.
    level = np.convolve(sum_S * np.exp(-1j * mean_S), np.ones(_SMOOTHED))
    phase_S: Array = mean_S + np.angle(level[_SMOOTHED // 2 :][: sum_S.size])
    return phase_S


def _vertex(power: Array) -> float:
    """The position of the maximum, between samples by the parabola through three of them."""
    at = int(np.argmax(power))
    if at in (0, power.size - 1):
        return float(at)
    left, middle, right = (float(power[at + step]) for step in (-1, 0, 1))
    bend = left - 2.0 * middle + right
    return at + (0.5 * (left - right) / bend if bend < 0.0 else 0.0)
