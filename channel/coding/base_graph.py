"""The LDPC codes of 5G NR: base graph selection, lifting, and parity checks.

3GPP TS 38.212 (V16) clauses 5.2.2, 5.3.2 and 7.2.2. Its tables 5.3.2-2 and -3 are base_graphs.csv beside
this file: a line per edge of a base graph, with the shift for each set index of table 5.3.2-1.
"""

from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter

LIFTINGS: tuple[tuple[int, ...], ...] = (
    (2, 4, 8, 16, 32, 64, 128, 256),
    (3, 6, 12, 24, 48, 96, 192, 384),
    (5, 10, 20, 40, 80, 160, 320),
    (7, 14, 28, 56, 112, 224),
    (9, 18, 36, 72, 144, 288),
    (11, 22, 44, 88, 176, 352),
    (13, 26, 52, 104, 208),
    (15, 30, 60, 120, 240),
)
"""Table 5.3.2-1, by set index; each set has its own shifts."""

MOST_BITS = {1: 8448, 2: 3840}
"""The longest code block of each base graph, in bits (clause 5.2.2)."""

_SHAPES = {1: (46, 68, 22), 2: (42, 52, 10)}
"""Rows, columns and information columns of the base graphs."""


class Graph(NamedTuple):
    """A lifted parity-check matrix: row r, of Z checks, has the edges row_start[r] to row_start[r + 1].

    By an edge, check z of its row contains bit (z + shift) mod Z of `column`. Codewords have shape
    (columns, Z); the first `information_columns` are information, the others parity.
    """

    lifting: int
    columns: int
    information_columns: int
    row_start: NDArray[np.int64]
    column: NDArray[np.int64]
    shift: NDArray[np.int64]

    def pruned(self, columns: int) -> "Graph":
        """The graph without checks whose parity column is not transmitted, beyond the first `columns`.

        The first four rows share their parity columns and are kept.
        """
        rows = max(4, columns - self.information_columns)
        last = int(self.row_start[rows])
        return self._replace(
            columns=self.information_columns + rows,
            row_start=self.row_start[: rows + 1],
            column=self.column[:last],
            shift=self.shift[:last],
        )


def base_graph_number(bits: int, code_rate: float) -> int:
    """Base graph 1 or 2 by clause 7.2.2, applied to the bits of the code block."""
    is_second = bits <= 292 or (bits <= 3824 and code_rate <= 0.67) or code_rate <= 0.25
    return 2 if is_second else 1


def lifted(number: int, bits: int) -> Graph:
    """The base graph with the smallest lifting size Z for `bits` information bits (clause 5.2.2).

    Raises BadParameter for a code block that is too long.
    """
    most = MOST_BITS[number]
    if not 1 <= bits <= most:
        raise BadParameter(f"a code block of base graph {number} must have 1 to {most} bits, got {bits}")
    filled = _filled_columns(number, bits)
    lifting, index = min(
        (size, index) for index, sizes in enumerate(LIFTINGS) for size in sizes if filled * size >= bits
    )
    row, column, shifts = _table(number)
    rows, columns, information_columns = _SHAPES[number]
    return Graph(
        lifting=lifting,
        columns=columns,
        information_columns=information_columns,
        row_start=np.searchsorted(row, np.arange(rows + 1)).astype(np.int64),
        column=column,
        shift=shifts[:, index] % lifting,
    )


def _filled_columns(number: int, bits: int) -> int:
    """K_b: the number of information columns in use."""
    if number == 1:
        return 22
    return next(count for least, count in ((641, 10), (561, 9), (193, 8), (0, 6)) if bits >= least)


@lru_cache
def _table(number: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """For every edge, in row order: row, column, and the shifts of the eight sets (edges, 8)."""
    text = files("channel.coding").joinpath("base_graphs.csv").read_text(encoding="utf-8")
    table = np.asarray([line.split(",") for line in text.splitlines()[1:]], dtype=np.int64)
    edges = table[table[:, 0] == number]
    return edges[:, 1], edges[:, 2], edges[:, 3:]
