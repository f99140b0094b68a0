"""Who sends what in a few slots, before it is sent: groups handed out, and the blocks that fill them.

Axes: R slots; C columns of a slot, direction x groups + group; F resource-block groups; Q queues, direction
x users + user, and one behind them that stays empty; T blocks.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.cell.blocks import Whole
from channel.core.arrays import Array


@dataclass(frozen=True, eq=False)
class Plan:
    """The queue of every column, and of the block that the column belongs to its scheme, its bits of data,
    and where they begin in the order of sending."""

    queue_RC: Whole
    scheme_RC: Whole
    payload_RC: Array
    place_RC: Array

    @classmethod
    def empty(cls, slots: int, columns: int, nobody: int) -> Self:
        """Every column belongs to the queue that stays empty."""
        whole_RC = np.full((2, slots, columns), nobody)
        return cls(*whole_RC, *np.zeros((2, slots, columns)))

    def first_columns(self, nobody: int) -> Whole:
        """One column (T,), as a place in the flat plan, for each slot and queue that has data there."""
        cell = np.flatnonzero(self.payload_RC > 0.0)
        row = cell // self.queue_RC.shape[1]
        key = row * (nobody + 1) + self.queue_RC.take(cell)
        # Whichever column of a block is written last stands for it, without sorting them.
        spokesman = np.empty(self.queue_RC.shape[0] * (nobody + 1), dtype=np.int64)
        spokesman[key] = cell
        return np.asarray(cell[spokesman[key] == cell])

    def held_FT(self, cell_T: Whole, groups: int) -> NDArray[np.bool_]:
        """Which groups these blocks hold."""
        columns = self.queue_RC.shape[1]
        start_T = cell_T - cell_T % columns + cell_T % columns // groups * groups
        queue_FT = self.queue_RC.take(start_T + np.arange(groups)[:, None])
        return np.asarray(queue_FT == self.queue_RC.take(cell_T))
