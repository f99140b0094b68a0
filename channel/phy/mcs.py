"""Modulation and coding schemes of 5G NR: 3GPP TS 38.214 (V16) tables 5.1.3.1-1 and -2, and the CQI tables.

A scheme is a modulation order (bits per symbol) and a code rate; efficiency grows with the index,
except for one step in each table at which the modulation changes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.core.errors import BadParameter


@dataclass(frozen=True)
class SchemeTable:
    """Schemes by index (I), in `groups` of (modulation order, code rates x 1024).

    `first` is the index of the first scheme: CQI tables start at 1, since CQI 0 means out of range.
    """

    name: str
    groups: tuple[tuple[int, tuple[float, ...]], ...]
    first: int = 0

    @property
    def size(self) -> int:
        """The number of schemes."""
        return sum(len(rates) for _, rates in self.groups)

    @property
    def modulation_order_I(self) -> NDArray[np.int64]:
        """Bits per symbol."""
        return np.concatenate([np.full(len(rates), order, dtype=np.int64) for order, rates in self.groups])

    @property
    def code_rate_I(self) -> Array:
        """Information bits per coded bit."""
        return np.concatenate([np.asarray(rates) for _, rates in self.groups]) / 1024.0

    @property
    def efficiency_I(self) -> Array:
        """Information bits per symbol."""
        return self.modulation_order_I * self.code_rate_I

    def index(self, number: int) -> int:
        """The position of scheme `number` in the arrays. Raises BadParameter for an unknown number."""
        if not self.first <= number < self.first + self.size:
            last = self.first + self.size - 1
            raise BadParameter(f"{self.name} index must lie in [{self.first}, {last}], got {number}")
        return number - self.first


_QPSK_STEPS = (120.0, 193.0, 308.0, 449.0, 602.0)
_16QAM_STEPS = (378.0, 434.0, 490.0, 553.0, 616.0, 658.0)
_64QAM_STEPS = (466.0, 517.0, 567.0, 616.0, 666.0, 719.0, 772.0, 822.0, 873.0)

MCS_TABLES: dict[str, SchemeTable] = {
    "64qam": SchemeTable(  # table 5.1.3.1-1
        "64qam MCS",
        (
            (2, (120.0, 157.0, 193.0, 251.0, 308.0, 379.0, 449.0, 526.0, 602.0, 679.0)),
            (4, (340.0, *_16QAM_STEPS)),
            (6, (438.0, *_64QAM_STEPS, 910.0, 948.0)),
        ),
    ),
    "256qam": SchemeTable(  # table 5.1.3.1-2
        "256qam MCS",
        (
            (2, _QPSK_STEPS),
            (4, _16QAM_STEPS),
            (6, _64QAM_STEPS),
            (8, (682.5, 711.0, 754.0, 797.0, 841.0, 885.0, 916.5, 948.0)),
        ),
    ),
}

CQI_TABLES: dict[str, SchemeTable] = {
    "64qam": SchemeTable(  # table 5.2.2.1-2
        "64qam CQI",
        (
            (2, (78.0, *_QPSK_STEPS)),
            (4, (378.0, 490.0, 616.0)),
            (6, (466.0, 567.0, 666.0, 772.0, 873.0, 948.0)),
        ),
        first=1,
    ),
    "256qam": SchemeTable(  # table 5.2.2.1-3
        "256qam CQI",
        (
            (2, (78.0, 193.0, 449.0)),
            (4, (378.0, 490.0, 616.0)),
            (6, (466.0, 567.0, 666.0, 772.0, 873.0)),
            (8, (711.0, 797.0, 885.0, 948.0)),
        ),
        first=1,
    ),
}


def mcs_table(name: str) -> SchemeTable:
    """A row of MCS_TABLES. Raises BadParameter, with the known names, for an unknown one."""
    return _named("MCS table", name, MCS_TABLES)


def cqi_table(name: str) -> SchemeTable:
    """A row of CQI_TABLES. Raises BadParameter, with the known names, for an unknown one."""
    return _named("CQI table", name, CQI_TABLES)


def _named(kind: str, name: str, tables: dict[str, SchemeTable]) -> SchemeTable:
    if name not in tables:
        raise BadParameter(f"{kind} must be one of {', '.join(tables)}, got {name!r}")
    return tables[name]
