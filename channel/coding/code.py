"""The LDPC code of one scheme with its rate matching."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.coding.base_graph import Graph, base_graph_number, lifted
from channel.core.arrays import above, whole
from channel.core.errors import BadParameter

_MOST_RATE = 0.95


@dataclass(frozen=True, kw_only=True, eq=False)
class Code:
    """A code block of `bits` bits, transmitted in redundancy version 0.

    `sent_E` holds, for each of the E transmitted bits in the order of mapping to symbols, its index in the
    flattened codeword (columns x Z); codes of low rate repeat indices.
    """

    bits: int
    modulation_order: int
    graph_number: int
    graph: Graph
    sent_E: NDArray[np.int64]

    @classmethod
    def of(cls, *, modulation_order: int, code_rate: float, bits: int, symbols: int | None = None) -> Self:
        """The code of a scheme: E is bits / code_rate, to the nearest whole symbol, or fills `symbols`.

        Rate matching and interleaving follow TS 38.212 clauses 5.4.2.1 (I_LBRM 0, RV 0) and 5.4.2.2: the
        first two columns are punctured, filler bits are skipped, and the circular buffer wraps around.
        Raises BadParameter for an unknown constellation, and if the scheme's rate or that of the transmitted
        bits lies outside (0, 0.95].
        """
        if modulation_order not in (2, 4, 6, 8):
            raise BadParameter(f"modulation_order must be one of 2, 4, 6, 8, got {modulation_order}")
        if above("code_rate", code_rate, 0.0) > _MOST_RATE:
            raise BadParameter(f"code_rate must be at most {_MOST_RATE}, got {code_rate}")
        number = base_graph_number(whole("bits", bits, 1), code_rate)
        graph = lifted(number, bits)
        if symbols is None:
            symbols = round(bits / code_rate / modulation_order)
        count = modulation_order * symbols
        if bits > _MOST_RATE * count:
            raise BadParameter(f"symbols must carry {bits} bits at a rate of {_MOST_RATE}, got {symbols}")
        place = np.arange(2 * graph.lifting, graph.columns * graph.lifting)
        is_filler = (place >= bits) & (place < graph.information_columns * graph.lifting)
        circle = place[~is_filler]
        chosen = circle[np.arange(count) % circle.size]
        return cls(
            bits=bits,
            modulation_order=modulation_order,
            graph_number=number,
            graph=graph.pruned(int(chosen.max()) // graph.lifting + 1),
            sent_E=chosen.reshape(modulation_order, -1).T.ravel(),
        )
