"""The LDPC code of one scheme with its rate matching."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.calibration.base_graph import Graph, base_graph_number, lifted
from channel.core.arrays import Array, above, whole
from channel.core.errors import BadParameter


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
    def of(cls, *, modulation_order: int, code_rate: float, bits: int) -> Self:
        """The code of a scheme: E is bits / code_rate, to the nearest whole symbol.

        Rate matching and interleaving follow TS 38.212 clauses 5.4.2.1 (I_LBRM 0, RV 0) and 5.4.2.2: the
        first two columns are punctured, filler bits are skipped, and the circular buffer wraps around.
        Raises BadParameter for an unknown constellation and a rate outside (0, 0.95].
        """
        if modulation_order not in (2, 4, 6, 8):
            raise BadParameter(f"modulation_order must be one of 2, 4, 6, 8, got {modulation_order}")
        if above("code_rate", code_rate, 0.0) > 0.95:
            raise BadParameter(f"code_rate must be at most 0.95, got {code_rate}")
        number = base_graph_number(whole("bits", bits, 1), code_rate)
        graph = lifted(number, bits)
        count = modulation_order * round(bits / code_rate / modulation_order)
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


def pam_levels(modulation_order: int) -> Array:
    """The amplitude for each label of one quadrature of QAM, by TS 38.211 (V16) clauses 5.1.3 to 5.1.6.

    Shape (2^(modulation_order / 2),); the first bit of a label is the most significant; mean power 1/2.
    """
    half = modulation_order // 2
    label = np.arange(1 << half)
    sign = [1.0 - 2.0 * (label >> (half - 1 - bit) & 1) for bit in range(half)]
    level = np.ones(label.size)
    for bit in range(half - 1, 0, -1):
        level = 2.0 ** (half - bit) - sign[bit] * level
    scaled: Array = sign[0] * level / np.sqrt(2.0 * np.mean(level**2))
    return scaled
