"""Phases of OFDM symbols, from what is known of their subcarriers.

`sum_S` is, for each symbol, the sum over its known subcarriers of the received value times the conjugate of
the expected one: its angle is the maximum-likelihood estimate of a common phase, its magnitude the weight.
"""

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
from numpy.typing import NDArray

from channel.coding.compiled import compiled
from channel.core.arrays import Array

Sums = NDArray[np.complex64]

_MOST_SLOPE = 0.5
"""Radians per symbol that are left of the carrier offset, at most."""
_SMOOTHED = 9
"""Symbols over which pilots are averaged."""
_GRID = np.linspace(-_MOST_SLOPE, _MOST_SLOPE, 65)


@compiled
def line(sum_S: Sums, time_S: Array, turn_GS: NDArray[np.complex64]) -> Array:
    """The phases (S,) at these times on the most likely straight line; `turn_GS` are the `turns` of them."""
    power = np.empty(turn_GS.shape[0])
    for slope in range(turn_GS.shape[0]):
        total = np.complex128(0.0)
        for symbol in range(sum_S.size):
            total += turn_GS[slope, symbol] * sum_S[symbol]
        power[slope] = abs(total)
    phase_S: Array = time_S * (_GRID[0] + (_GRID[1] - _GRID[0]) * _vertex(power))
    total = np.complex128(0.0)
    for symbol in range(sum_S.size):
        total += sum_S[symbol] * np.exp(-1j * phase_S[symbol])
    phase_S += np.angle(total)
    return phase_S


def turns(time_S: Array) -> NDArray[np.complex64]:
    """For every slope in question what turns the phases at these times back."""
    turn_GS: NDArray[np.complex64] = np.exp(-1j * _GRID[:, None] * time_S).astype(np.complex64)
    return turn_GS


def tracked(sum_S: Sums) -> Array:
    """The phases (S,) of consecutive symbols: a mean slope, and around it the average over nine symbols."""
    size = scipy.fft.next_fast_len(4 * sum_S.size)
    most = max(1, int(_MOST_SLOPE * size / (2 * np.pi)))
    exact_S = sum_S.astype(np.complex128)
    return _averaged(exact_S, scipy.fft.fft(exact_S, size), most)


@compiled
def _averaged(sum_S: NDArray[np.complex128], spectrum: NDArray[np.complex128], most: int) -> Array:
    """The phases (S,) by the slope at the peak of this spectrum, within `most` bins around 0."""
    near = np.empty(2 * most + 1)
    for at in range(near.size):
        near[at] = abs(spectrum[at - most])
    slope = (_vertex(near) - most) * 2 * np.pi / spectrum.size
    level_S, phase_S = np.empty_like(sum_S), np.empty(sum_S.size)
    for symbol in range(sum_S.size):
        level_S[symbol] = sum_S[symbol] * np.exp(-1j * slope * symbol)
    for symbol in range(sum_S.size):
        first, end = max(0, symbol - _SMOOTHED // 2), symbol + _SMOOTHED // 2 + 1
        phase_S[symbol] = slope * symbol + np.angle(np.sum(level_S[first:end]))
    return phase_S


@compiled
def _vertex(power: Array) -> float:
    """The position of the maximum, between samples by the parabola through three of them."""
    at = int(np.argmax(power))
    if at in (0, power.size - 1):
        return float(at)
    left, middle, right = power[at - 1], power[at], power[at + 1]
    bend = left - 2.0 * middle + right
    return at + (0.5 * (left - right) / bend if bend < 0.0 else 0.0)
