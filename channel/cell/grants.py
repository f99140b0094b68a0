"""Who gets the columns of a grant, and with which scheme.

Axes: G grants; D directions; F resource-block groups; C columns of a slot, direction x F + group; U users;
Q queues, direction x U + user, and a last one that stays empty.
"""

import numpy as np
from numpy.typing import NDArray

from channel.cell.blocks import IntArray
from channel.cell.outer_loop import OuterLoopMargins
from channel.cell.parameters import CellParameters
from channel.cell.power_limits import PowerLimits, is_overfull
from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.propagation.directions import BothDirections


class GrantAllocator:
    """Allocates columns to queues by the scheduler, the outer loop's `margins` and the power of users."""

    def __init__(self, parameters: CellParameters, directions: BothDirections) -> None:
        users, number_of = directions.users, len(DIRECTIONS)
        self._parameters, self._power_limits = parameters, PowerLimits(parameters, directions)
        self._empty_queue = number_of * users
        self.margins = OuterLoopMargins(parameters, self._empty_queue + 1)
        self._mean_bps = np.zeros(self._empty_queue + 1)
        self._mean_DU = self._mean_bps[:-1].reshape(number_of, users)
        self._mean_grant = 0
        self._turn = np.zeros((number_of, 1), dtype=np.int64)
        # The queue of each user in each column; after them, for any user, the queue that stays empty.
        first_C = np.repeat(np.arange(number_of) * users, parameters.groups)
        empty_U = np.full(users, self._empty_queue)
        self._queue_at = np.append(first_C[:, None] + np.arange(users), empty_U)
        self._begin_C = np.arange(first_C.size) * users
        self._no_column = first_C.size * users
        self._keep = float(np.exp(-parameters.grant_s / parameters.window_s))
        self._share = (1.0 - self._keep) / parameters.grant_s

    def places(self, free_GC: NDArray[np.bool_]) -> tuple[IntArray, IntArray]:
        """What `allocate` needs of the free columns: `begin_GC`, and their number (G, D, 1).

        `begin_GC` is the offset of a column's users in `_queue_at`, or its end if the column is not free.
        """
        free_GDF = free_GC.reshape(len(free_GC), len(DIRECTIONS), -1)
        return np.where(free_GC, self._begin_C, self._no_column), free_GDF.sum(axis=2, keepdims=True)

    def allocate(
        self, grant: int, report_DFU: Array, rate_DFU: Array, begin_C: IntArray, free_D1: IntArray
    ) -> tuple[IntArray, IntArray, IntArray]:
        """The queue (C,), the scheme (C,) and the number of columns of that queue (C,) for every column."""
        self._forget(grant)
        self._power_limits.look_up(grant)
        winner_DF = self._parameters.scheduler.choose(rate_DFU, self._mean_DU, self._turn)
        place_C, queue_C = self._chosen(winner_DF, rate_DFU, begin_C)
        groups_C = columns_per_queue(queue_C)
        share_C = self._power_limits.full_power_share(queue_C, groups_C)
        if is_overfull(share_C):
            begin_C = self._choose_by_worth(winner_DF, report_DFU, rate_DFU, begin_C)
            place_C, queue_C = self._chosen(winner_DF, rate_DFU, begin_C)
            groups_C = columns_per_queue(queue_C)
            share_C = self._power_limits.full_power_share(queue_C, groups_C)
        self._turn += free_D1
        reported_C = report_DFU.reshape(-1)[place_C]
        # With more groups than its power fills, a queue spreads the power over them.
        sinr_C = np.minimum(reported_C, reported_C * share_C)
        return queue_C, self._scheme(sinr_C, queue_C, groups_C), groups_C

    def add_payload(self, queue_C: IntArray, payload_C: Array) -> None:
        """Counts the payload bits of a slot in the mean rates; all columns of a queue have equal values."""
        self._mean_bps[queue_C] += self._share * payload_C

    def _choose_by_worth(
        self, winner_DF: IntArray, report_DFU: Array, rate_DFU: Array, begin_C: IntArray
    ) -> IntArray:
        """Replaces the winners of directions with power-limited users; returns the new `begin_C`.

        A column that is not free belongs to no queue and uses no power.
        """
        free_DF = (begin_C < self._no_column).reshape(winner_DF.shape)
        for direction, worth in self._power_limits.worth.items():
            winner_DF[direction] = self._parameters.scheduler.choose(
                rate_DFU[direction] * free_DF[direction, :, None],
                self._mean_DU[direction],
                self._turn[direction],
                worth.of(report_DFU[direction]),
            )
        is_empty_DF = winner_DF < 0
        if np.count_nonzero(is_empty_DF):
            begin_C = np.where(is_empty_DF.reshape(-1), self._no_column, begin_C)
            winner_DF[is_empty_DF] = 0
        return begin_C

    def _chosen(self, winner_DF: IntArray, rate_DFU: Array, begin_C: IntArray) -> tuple[IntArray, IntArray]:
        """For every column the flat index in `rate_DFU` of its user, and its queue or the empty one."""
        winner_C = winner_DF.reshape(-1)
        place_C = self._begin_C + winner_C
        queue_C = self._queue_at[begin_C + winner_C]
        rate_C = rate_DFU.reshape(-1)[place_C]
        if np.count_nonzero(rate_C) < rate_C.size:
            queue_C[rate_C == 0.0] = self._empty_queue
        return place_C, queue_C

    def _forget(self, grant: int) -> None:
        """Decays the mean rates to the start of this grant."""
        if grant > self._mean_grant:
            self._mean_bps *= self._keep ** (grant - self._mean_grant)
            self._mean_grant = grant

    def _scheme(self, sinr_C: Array, queue_C: IntArray, groups_C: IntArray) -> IntArray:
        """The fastest scheme (C,) for the capacity-averaged SINR of a queue's groups, less its margin.

        At least the slowest scheme is chosen whatever the margin, which otherwise could never recover.
        """
        total_C = np.bincount(queue_C, np.log1p(sinr_C))[queue_C]
        level_C = np.expm1(total_C / groups_C) / self.margins.of(queue_C)
        return self._parameters.scheme_lookup.scheme(level_C)


def columns_per_queue(queue_C: IntArray) -> IntArray:
    """For each column, the number of columns of its queue."""
    return np.bincount(queue_C)[queue_C]
