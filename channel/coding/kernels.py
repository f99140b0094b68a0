"""Compiled encoder and decoder of code blocks.

Imports numba. Log-likelihood ratios are positive if 0 is the more
likely bit. The loops over Z dominate the run time: their arrays are flat and indices unsigned, without
which the compiler does not vectorise them (about ten times slower).
"""

import numpy as np
from numpy.typing import NDArray

from channel.coding.base_graph import Graph
from channel.coding.compiled import compiled

Bits = NDArray[np.uint8]
Floats = NDArray[np.float32]

_FACTOR = np.float32(0.75)
_KNOWN = np.float32(1e4)
"""The log-likelihood ratio of a filler bit, which is known to be 0."""


@compiled
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


@compiled
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


@compiled
def _count(level: Floats, first: int, parity: NDArray[np.int32], begin: int, end: int) -> None:
    for z in range(begin, end):
        parity[np.uint64(z)] ^= np.int32(level[np.uint64(first + z)] < 0.0)


@compiled
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


@compiled
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


@compiled
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


@compiled
def decode_blocks(
    graph: Graph, sent_E: NDArray[np.int64], bits: int, ratio_BE: Floats, iterations: int
) -> Bits:
    """The information bits (B, bits) decoded from the log-likelihood ratios of the transmitted bits (B, E).

    A block that still violates parity checks after `iterations` is returned as it then is.
    """
    blocks = ratio_BE.shape[0]
    most_edges = np.max(graph.row_start[1:] - graph.row_start[:-1])
    level = np.empty(graph.columns * graph.lifting, dtype=np.float32)
    message = np.empty(graph.column.size * graph.lifting, dtype=np.float32)
    work = np.empty((3 + most_edges) * graph.lifting, dtype=np.float32)
    found_BK = np.empty((blocks, bits), dtype=np.uint8)
    for block in range(blocks):
        collect(graph, sent_E, bits, ratio_BE[block], level)
        decode(graph, level, message, work, iterations)
        found_BK[block] = level[:bits] < 0.0
    return found_BK


@compiled
def collect(
    graph: Graph, sent_E: NDArray[np.int64], bits: int, ratio_E: Floats | NDArray[np.float64], level: Floats
) -> None:
    """Writes the log-likelihood ratios of a codeword to `level` (columns x Z): repeated bits add up."""
    level[:] = 0.0
    level[bits : graph.information_columns * graph.lifting] = _KNOWN
    for sent in range(sent_E.size):
        level[sent_E[sent]] += ratio_E[sent]


@compiled
def encode_blocks(graph: Graph, sent_E: NDArray[np.int64], information_BK: Bits) -> Bits:
    """The transmitted bits (B, E) of blocks of information bits (B, K)."""
    blocks, bits = information_BK.shape
    word = np.zeros((graph.columns, graph.lifting), dtype=np.uint8)
    sent_BE = np.empty((blocks, sent_E.size), dtype=np.uint8)
    for block in range(blocks):
        word.ravel()[:bits] = information_BK[block]
        encode(graph, word)
        sent_BE[block] = word.ravel()[sent_E]
    return sent_BE
