"""Bits to constellation points and back to log-likelihood ratios."""

import numpy as np
from numpy.typing import NDArray

from channel.coding.compiled import compiled
from channel.coding.qam import pam_levels

Points = NDArray[np.complex64]


def mapped(bit_E: NDArray[np.uint8], modulation_order: int) -> Points:
    """The points (E / modulation_order,) of bits; even ones of a symbol are in phase, odd ones quadrature."""
    half = modulation_order // 2
    weight = 1 << np.arange(half - 1, -1, -1, dtype=np.uint8)
    label = weight @ bit_E.reshape(-1, half, 2)
    amplitude = pam_levels(modulation_order).astype(np.float32)[label]
    points: Points = amplitude.view(np.complex64).ravel()
    return points


def max_log_ratios(
    point_S: Points, weight_S: NDArray[np.float32], modulation_order: int
) -> NDArray[np.float32]:
    """The log-likelihood ratios (S x modulation_order,) of the bits, by the nearest points of either value.

    `weight_S` is the signal-to-noise ratio of each point, whose noise has the power 1 / weight. Positive if 0
    is the more likely bit.
    """
    levels = pam_levels(modulation_order).astype(np.float32)
    return _ratios(point_S.view(np.float32), weight_S, levels, modulation_order)


@compiled
def _ratios(
    amplitude_A: NDArray[np.float32],
    weight_S: NDArray[np.float32],
    levels: NDArray[np.float32],
    modulation_order: int,
) -> NDArray[np.float32]:
    half = modulation_order // 2
    ratio_E = np.empty(amplitude_A.size * half, dtype=np.float32)
    zero = np.empty(half, dtype=np.float32)
    one = np.empty(half, dtype=np.float32)
    for axis in range(amplitude_A.size):
        zero[:] = np.inf
        one[:] = np.inf
        for label in range(levels.size):
            distance = (amplitude_A[axis] - levels[label]) ** 2
            for bit in range(half):
                if label >> (half - 1 - bit) & 1:
                    one[bit] = min(one[bit], distance)
                else:
                    zero[bit] = min(zero[bit], distance)
        first = axis // 2 * modulation_order + axis % 2
        for bit in range(half):
            ratio_E[first + 2 * bit] = (one[bit] - zero[bit]) * weight_S[axis // 2]
    return ratio_E
