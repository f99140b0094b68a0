"""Compiled kernels of the simulation: AWGN channel, exact demapping and counting of failed code blocks.

Imports numba.
"""

import math

import numpy as np
from numpy.typing import NDArray

from channel.coding.base_graph import Graph
from channel.coding.compiled import compiled
from channel.coding.kernels import Bits, collect, decode, encode

Reals = NDArray[np.float64]

_FAINT = 1e-300
"""Keeps the logarithm finite if a likelihood underflows."""


@compiled
def heard(bit_E: Bits, modulation_order: int, levels: Reals, noise_power: float, noise_A: Reals) -> Reals:
    """The received amplitudes (A,), A = 2 E / modulation_order, alternating in-phase and quadrature.

    Even bits of a symbol map to in-phase, odd bits to quadrature; `noise_A` has unit variance.
    """
    sigma = math.sqrt(noise_power / 2.0)
    amplitude_A = np.empty(noise_A.size)
    for axis in range(noise_A.size):
        first = axis // 2 * modulation_order + axis % 2
        label = 0
        for bit in range(modulation_order // 2):
            label = 2 * label + bit_E[first + 2 * bit]
        amplitude_A[axis] = levels[label] + sigma * noise_A[axis]
    return amplitude_A


@compiled
def ratios(amplitude_A: Reals, modulation_order: int, levels: Reals, noise_power: float) -> Reals:
    """The exact log-likelihood ratios (E,) of the bits of these amplitudes."""
    half = modulation_order // 2
    if half == 1:  # the general formula is linear here
        line_E: Reals = ((amplitude_A - levels[1]) ** 2 - (amplitude_A - levels[0]) ** 2) / noise_power
        return line_E
    ratio_E = np.empty(amplitude_A.size * half)
    likely = np.empty(levels.size)
    for axis in range(amplitude_A.size):
        first = axis // 2 * modulation_order + axis % 2
        nearest = np.min((amplitude_A[axis] - levels) ** 2)
        for label in range(levels.size):
            likely[label] = math.exp((nearest - (amplitude_A[axis] - levels[label]) ** 2) / noise_power)
        for bit in range(half):
            zero, one = _FAINT, _FAINT
            for label in range(levels.size):
                if label >> (half - 1 - bit) & 1:
                    one += likely[label]
                else:
                    zero += likely[label]
            ratio_E[first + 2 * bit] = math.log(zero / one)
    return ratio_E


@compiled
def failures(
    graph: Graph,
    sent_E: NDArray[np.int64],
    modulation_order: int,
    levels: Reals,
    noise_power: float,
    information_BK: Bits,
    noise_BA: Reals,
    iterations: int,
) -> int:
    """The number of B code blocks decoded with a wrong information bit."""
    bits = information_BK.shape[1]
    most_edges = np.max(graph.row_start[1:] - graph.row_start[:-1])
    word = np.zeros((graph.columns, graph.lifting), dtype=np.uint8)
    level = np.empty(graph.columns * graph.lifting, dtype=np.float32)
    message = np.empty(graph.column.size * graph.lifting, dtype=np.float32)
    work = np.empty((3 + most_edges) * graph.lifting, dtype=np.float32)
    failed = 0
    for block in range(information_BK.shape[0]):
        word.ravel()[:bits] = information_BK[block]
        encode(graph, word)
        amplitude_A = heard(word.ravel()[sent_E], modulation_order, levels, noise_power, noise_BA[block])
        ratio_E = ratios(amplitude_A, modulation_order, levels, noise_power)
        collect(graph, sent_E, bits, ratio_E, level)
        decode(graph, level, message, work, iterations)
        failed += int(((level[:bits] < 0.0) != (information_BK[block] == 1)).any())
    return failed
