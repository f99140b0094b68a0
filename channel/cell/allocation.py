"""The allocation of resource-block groups in the slots of a batch, and the payload of their blocks.

Axes: R slots; C columns of a slot, direction x groups + group; F resource-block groups; Q queues, direction
x users + user, and a last one that stays empty; T blocks.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.cell.blocks import IntArray
from channel.core.arrays import Array


@dataclass(frozen=True, eq=False)
class SlotAllocation:
    """For every column its queue, and the scheme, payload bits and stream position of its block."""

    queue_RC: IntArray
    scheme_RC: IntArray
    payload_RC: Array
    place_RC: Array

    @classmethod
    def empty(cls, slots: int, columns: int, empty_queue: int) -> Self:
        """An allocation in which every column belongs to the queue that stays empty, `empty_queue`."""
        whole_RC = np.full((2, slots, columns), empty_queue)
        return cls(*whole_RC, *np.zeros((2, slots, columns)))

    def first_columns(self, empty_queue: int) -> IntArray:
        """One flat column index (T,) for each slot and queue with payload there."""
        cell = np.flatnonzero(self.payload_RC > 0.0)
        row = cell // self.queue_RC.shape[1]
        key = row * (empty_queue + 1) + self.queue_RC.take(cell)
        # The column of a block that is written last represents it, without sorting.
        representative = np.empty(self.queue_RC.shape[0] * (empty_queue + 1), dtype=np.int64)
        representative[key] = cell
        return np.asarray(cell[representative[key] == cell])

    def held_FT(self, cell_T: IntArray, groups: int) -> NDArray[np.bool_]:
        """The groups (F, T) of the blocks represented by these columns."""
        columns = self.queue_RC.shape[1]
        start_T = cell_T - cell_T % columns + cell_T % columns // groups * groups
        queue_FT = self.queue_RC.take(start_T + np.arange(groups)[:, None])
        return np.asarray(queue_FT == self.queue_RC.take(cell_T))
