"""Compiled kernels that encode, transmit and decode code blocks.

Imports numba, so only the simulation imports this file. Log-likelihood ratios are positive if 0 is the more
likely bit. The loops over Z dominate the run time: their arrays are flat and indices unsigned, without
which the compiler does not vectorise them (about ten times slower).
"""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

from channel.calibration.base_graph import Graph

Bits = NDArray[np.uint8]
Floats = NDArray[np.float32]
Reals = NDArray[np.float64]

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_FACTOR = np.float32(0.75)
_KNOWN = np.float32(1e4)
"""The log-likelihood ratio of a filler bit, which is known to be 0."""
_FAINT = 1e-300
"""Keeps the logarithm finite if a likelihood underflows."""


def _compiled(function: Kernel) -> Kernel:
    """Applies numba's njit and keeps the type hints."""
    made: Kernel = njit(function)
    return made


@_compiled
def encode(graph: Graph, word: Bits) -> None:
    """Computes in place the parity of a codeword (columns, Z) from the information in its first columns.

    In the sum of the first four rows only the first parity column remains, once. Given that column, each
    row except the fourth contains exactly one unknown parity column, unshifted.
    """
    lifting, first = graph.lifting, graph.information_columns
    total = np.zeros(lifting, dtype=np.uint8)
    seen = np.zeros(lifting, dtype=np.int64)
    for edge in range(graph.row_start[4]):
        column, shift = graph.column[edge], graph.shift[edge]
        if column < first:
            for z in range(lifting):
                total[z] ^= word[column, (z + shift) % lifting]
        elif column == first:
            seen[shift] += 1
    word[first:] = 0
    for shift in range(lifting):
        if seen[shift] % 2 == 1:
            for z in range(lifting):
                word[first, (z + shift) % lifting] = total[z]
    for row in range(graph.row_start.size - 1):
        if row == 3:
            continue
        fresh = first + 1 + row if row < 3 else first + row
        total[:] = 0
        for edge in range(graph.row_start[row], graph.row_start[row + 1]):
            column, shift = graph.column[edge], graph.shift[edge]
            if column != fresh:
                for z in range(lifting):
                    total[z] ^= word[column, (z + shift) % lifting]
        word[fresh] = total


@_compiled
def is_codeword(graph: Graph, level: Floats, parity: NDArray[np.int32]) -> bool:
    """Whether the signs of the LLRs `level` (columns x Z) satisfy every parity check."""
    for row in range(graph.row_start.size - 1):
        parity[:] = 0
        for edge in range(graph.row_start[row], graph.row_start[row + 1]):
            first = graph.column[edge] * graph.lifting + graph.shift[edge]
            cut = graph.lifting - graph.shift[edge]  # where a check's bit wraps around
            _count(level, first, parity, 0, cut)
            _count(level, first - graph.lifting, parity, cut, graph.lifting)
        if parity.any():
            return False
    return True


@_compiled
def _count(level: Floats, first: int, parity: NDArray[np.int32], begin: int, end: int) -> None:
    for z in range(begin, end):
        parity[np.uint64(z)] ^= np.int32(level[np.uint64(first + z)] < 0.0)


@_compiled
def decode(graph: Graph, level: Floats, message: Floats, work: Floats, iterations: int) -> None:
    """Layered normalised min-sum decoding, factor 3/4, in place, until all parity checks are satisfied.

    `level` (columns x Z) are the LLRs of the bits, `message` (edges x Z) the check-to-bit values. `work` has
    rows of Z: the smallest and second smallest magnitude of a layer, its sign, and the bit-to-check message
    of each edge. Chen & Fossorier, IEEE Trans. Commun. 50(3), 2002; Hocevar, IEEE SiPS 2004.
    """
    lifting = graph.lifting
    parity = np.empty(lifting, dtype=np.int32)
    message[:] = 0.0
    for _ in range(iterations):
        if is_codeword(graph, level, parity):
            return
        for row in range(graph.row_start.size - 1):
            begin, end = graph.row_start[row], graph.row_start[row + 1]
            work[: 2 * lifting] = np.inf
            work[2 * lifting : 3 * lifting] = 1.0
            for edge in range(begin, end):
                first, cut = graph.column[edge] * lifting + graph.shift[edge], lifting - graph.shift[edge]
                line, slot = edge * lifting, (3 + edge - begin) * lifting
                _bit_to_check(level, first, message, line, work, slot, 0, cut, lifting)
                _bit_to_check(level, first - lifting, message, line, work, slot, cut, lifting, lifting)
            for edge in range(begin, end):
                first, cut = graph.column[edge] * lifting + graph.shift[edge], lifting - graph.shift[edge]
                line, slot = edge * lifting, (3 + edge - begin) * lifting
                _check_to_bit(level, first, message, line, work, slot, 0, cut, lifting)
                _check_to_bit(level, first - lifting, message, line, work, slot, cut, lifting, lifting)


@_compiled
def _bit_to_check(
    level: Floats,
    first: int,
    message: Floats,
    line: int,
    work: Floats,
    slot: int,
    begin: int,
    end: int,
    lifting: int,
) -> None:
    """Bit-to-check messages of one edge; updates the two smallest magnitudes and the sign of the layer."""
    for z in range(begin, end):
        word = level[np.uint64(first + z)] - message[np.uint64(line + z)]
        work[np.uint64(slot + z)] = word
        size = abs(word)
        least, second = work[np.uint64(z)], work[np.uint64(lifting + z)]
        work[np.uint64(z)] = min(least, size)
        work[np.uint64(lifting + z)] = min(second, max(least, size))
        sign = work[np.uint64(2 * lifting + z)]
        work[np.uint64(2 * lifting + z)] = sign if word >= 0.0 else -sign


@_compiled
def _check_to_bit(
    level: Floats,
    first: int,
    message: Floats,
    line: int,
    work: Floats,
    slot: int,
    begin: int,
    end: int,
    lifting: int,
) -> None:
    """Check-to-bit messages of one edge: minimum magnitude and sign over the other edges, scaled."""
    for z in range(begin, end):
        word = work[np.uint64(slot + z)]
        least, second = work[np.uint64(z)], work[np.uint64(lifting + z)]
        size = _FACTOR * (second if abs(word) == least else least) * work[np.uint64(2 * lifting + z)]
        answer = size if word >= 0.0 else -size
        message[np.uint64(line + z)] = answer
        level[np.uint64(first + z)] = word + answer


@_compiled
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


@_compiled
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


@_compiled
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
        level[:] = 0.0
        level[bits : graph.information_columns * graph.lifting] = _KNOWN
        for sent in range(sent_E.size):
            level[sent_E[sent]] += ratio_E[sent]
        decode(graph, level, message, work, iterations)
        failed += int(((level[:bits] < 0.0) != (information_BK[block] == 1)).any())
    return failed
