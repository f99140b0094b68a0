"""Transport block sizes and code block segmentation of 5G NR.

3GPP TS 38.214 (V16) clause 5.1.3.2 and TS 38.212 clauses 5.2.2, 6.2.2 and 7.2.2.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import above, whole
from channel.core.errors import BadParameter
from channel.phy.mcs import SchemeTable

_SMALL_SIZES: tuple[int, ...] = (
    *range(24, 193, 8),
    *range(208, 385, 16),
    *range(408, 577, 24),
    *range(608, 769, 32),
    *(808, 848, 888, 928, 984, 1032, 1064, 1128, 1160, 1192, 1224, 1256, 1288, 1320, 1352),
    *range(1416, 1929, 64),
    *(2024, 2088, 2152, 2216, 2280, 2408, 2472, 2536, 2600, 2664, 2728, 2792, 2856, 2976),
    *(3104, 3240, 3368, 3496, 3624, 3752, 3824),
)
"""Table 5.1.3.2-1: the 93 sizes up to 3,824 bits."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """Resource elements of one resource block in one slot, and the number of layers.

    12 subcarriers x `symbols`, less `pilot_elements` (DMRS) and `overhead_elements`, at most 156
    (clause 5.1.3.2, step 1). Raises BadParameter if no element is left, or layers are outside [1, 8].
    """

    symbols: int = 14
    pilot_elements: int = 12
    overhead_elements: int = 0
    layers: int = 1

    def __post_init__(self) -> None:
        for name in ("pilot_elements", "overhead_elements"):
            whole(name, getattr(self, name), 0)
        if not 1 <= whole("symbols", self.symbols, 1) <= 14:
            raise BadParameter(f"symbols must lie in [1, 14], got {self.symbols}")
        if not 1 <= whole("layers", self.layers, 1) <= 8:
            raise BadParameter(f"layers must lie in [1, 8], got {self.layers}")
        if self.elements < 1:
            raise BadParameter(f"a resource block must keep at least 1 element for data, got {self.elements}")

    @property
    def elements(self) -> int:
        """N'_RE, the data elements of one resource block."""
        return min(156, 12 * self.symbols - self.pilot_elements - self.overhead_elements)


def transport_block_bits(
    allocation: Allocation, *, resource_blocks: int, modulation_order: int, code_rate: float
) -> int:
    """The transport block size (TBS) in bits; 0 for no resource blocks.

    Raises BadParameter for a negative number of resource blocks or a rate that is not above 0.
    """
    above("code_rate", code_rate, 0.0)
    elements = allocation.elements * whole("resource_blocks", resource_blocks, 0)
    wanted = elements * code_rate * modulation_order * allocation.layers
    if wanted <= 0:
        return 0
    return _small(wanted) if wanted <= 3824 else _large(wanted, code_rate)


def transport_block_table(
    allocation: Allocation, table: SchemeTable, resource_blocks: Iterable[int]
) -> NDArray[np.int64]:
    """TBS in bits (I, N) for every scheme and each number of resource blocks."""
    counts = list(resource_blocks)
    pairs = zip(table.modulation_order_I.tolist(), table.code_rate_I.tolist(), strict=True)
    return np.asarray(
        [
            [
                transport_block_bits(
                    allocation, resource_blocks=count, modulation_order=order, code_rate=rate
                )
                for count in counts
            ]
            for order, rate in pairs
        ],
        dtype=np.int64,
    )


def code_blocks(block_bits: int, code_rate: float) -> tuple[int, int]:
    """The number of code blocks of a transport block, and the bits of each, CRCs included.

    LDPC base graph 2 (at most 3,840 bits) for small or slow blocks, else base graph 1 (8,448 bits):
    TS 38.212 clause 7.2.2; CRC of 16 bits up to 3,824 bits, then 24, and 24 on each of several blocks:
    clauses 7.2.1 and 5.2.2. Raises BadParameter for no bits.
    """
    whole("block_bits", block_bits, 1)
    checked = block_bits + (24 if block_bits > 3824 else 16)
    is_graph_2 = block_bits <= 292 or (block_bits <= 3824 and code_rate <= 0.67) or code_rate <= 0.25
    longest = 3840 if is_graph_2 else 8448
    if checked <= longest:
        return 1, checked
    count = math.ceil(checked / (longest - 24))
    return count, math.ceil(checked / count) + 24


def _small(wanted: float) -> int:
    """Step 3: round down to a grid, then up to the table."""
    step = 1 << max(3, math.floor(math.log2(wanted)) - 6)
    rounded = max(24, step * math.floor(wanted / step))
    return _SMALL_SIZES[bisect_left(_SMALL_SIZES, rounded)]


def _large(wanted: float, code_rate: float) -> int:
    """Step 4: round to a grid (ties upward), then up to a size that cuts into equal code blocks."""
    step = 1 << (math.floor(math.log2(wanted - 24)) - 5)
    rounded = max(3840, step * math.floor((wanted - 24) / step + 0.5))
    if code_rate <= 0.25:
        count = math.ceil((rounded + 24) / 3816)
    elif rounded > 8424:
        count = math.ceil((rounded + 24) / 8424)
    else:
        count = 1
    return 8 * count * math.ceil((rounded + 24) / (8 * count)) - 24
