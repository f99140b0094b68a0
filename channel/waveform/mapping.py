"""Bits to constellation points, and received points to log-likelihood ratios."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from channel.coding.compiled import compiled
from channel.coding.qam import pam_levels

Points = NDArray[np.complex64]
Floats = NDArray[np.float32]


def mapped(bit_E: NDArray[np.uint8], modulation_order: int) -> Points:
    """The points (E / modulation_order,) of bits; even ones of a symbol are in phase, odd ones quadrature."""
    return _mapped(bit_E, _levels(modulation_order), modulation_order // 2)


@compiled
def _mapped(bit_E: NDArray[np.uint8], level: Floats, half: int) -> Points:
    """The points of bits, `half` in each quadrature, whose amplitudes are `level` by their number."""
    amplitude = np.empty((bit_E.size // (2 * half), 2), dtype=np.float32)
    for symbol in range(amplitude.shape[0]):
        for axis in range(2):
            number = 0
            for bit in range(half):
                number = 2 * number + bit_E[2 * (symbol * half + bit) + axis]
            amplitude[symbol, axis] = level[number]
    return amplitude.view(np.complex64).ravel()


@lru_cache
def least_amplitude(modulation_order: int) -> float:
    """The smallest magnitude of one quadrature, half of the distance of two levels."""
    return float(np.min(np.abs(_levels(modulation_order))))


@lru_cache
def _levels(modulation_order: int) -> Floats:
    return pam_levels(modulation_order).astype(np.float32)


@compiled
def max_log_ratios(
    point_S: Points, weight_D: Floats, sign_E: Floats, modulation_order: int, least: float
) -> Floats:
    """The log-likelihood ratios (E,) of bits, from the nearest points with either value, times `sign_E`.

    `weight_D` are the signal-to-noise ratios of D points, repeated for all; `least` is `least_amplitude`. In
    units of it the levels of 64QAM are +-(4 -+ (2 -+ 1)): the closed forms are the differences of squared
    distances to the nearest levels. Positive if 0 is the more likely bit and the sign is 1.
    """
    ratio_E = np.empty(sign_E.size, dtype=np.float32)
    unit, two, three = np.float32(least), np.float32(2.0), np.float32(3.0)
    none, four, six = np.float32(0.0), np.float32(4.0), np.float32(6.0)
    carrier = 0
    for symbol in range(point_S.size):
        scale = four * unit * unit * weight_D[carrier]
        carrier = carrier + 1 if carrier + 1 < weight_D.size else 0
        first = symbol * modulation_order
        for axis in range(2):
            level = (point_S[symbol].imag if axis else point_S[symbol].real) / unit
            size, at = abs(level), first + axis
            sure = size
            if modulation_order >= 4:
                sure = max(size, two * size - two)
            if modulation_order == 6:
                sure = max(sure, max(three * size - six, four * size - two * six))
                near = four - size + max(none, two - size) + min(none, six - size)
                ratio_E[at + 2] = scale * near * sign_E[at + 2]
                ratio_E[at + 4] = scale * (two - abs(size - four)) * sign_E[at + 4]
            elif modulation_order == 4:
                ratio_E[at + 2] = scale * (two - size) * sign_E[at + 2]
            ratio_E[at] = scale * (sure if level >= 0.0 else -sure) * sign_E[at]
    return ratio_E
