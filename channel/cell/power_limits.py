"""Power limits of users: the number of groups at full group power, and the value of a further one.

Axes: D directions; F resource-block groups; N numbers of groups, as many as F; C columns, direction x F +
group; U users; Q queues, direction x U + user, and a last one that stays empty.
"""

import numpy as np
from numpy.typing import NDArray

from channel.cell.blocks import IntArray
from channel.cell.parameters import CellParameters
from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.propagation.directions import BothDirections
from channel.propagation.fading_grid import SLOTS


class PowerLimits:
    """The groups `full_power_groups_Q` that each queue's power fills at the grant of the last `look_up`.

    `is_limited_D11` marks directions in which a user cannot fill the whole band.
    """

    def __init__(self, parameters: CellParameters, directions: BothDirections) -> None:
        self._parameters, self._directions, self._slot_block = parameters, directions, -1
        self._empty_queue = len(DIRECTIONS) * directions.users
        self.full_power_groups_Q: Array = np.ones(self._empty_queue + 1)
        self.is_limited_D11: NDArray[np.bool_] = np.zeros((len(DIRECTIONS), 1, 1), dtype=np.bool_)

    def look_up(self, grant: int) -> None:
        """Updates the limits to a grant; they are constant within a block of slots."""
        number = grant * self._parameters.grant_slots // SLOTS
        if number != self._slot_block:
            self._slot_block, self.full_power_groups_Q = (
                number,
                self._directions.slot_block(number).full_power_groups_Q,
            )
            is_limited_Q = self.full_power_groups_Q[:-1] < self._parameters.groups * (1.0 - 1e-9)
            is_limited_DU = is_limited_Q.reshape(len(DIRECTIONS), -1)
            self.is_limited_D11 = np.asarray(is_limited_DU.any(axis=1))[:, None, None]

    def is_overfull(self, queue_C: IntArray, groups_C: IntArray) -> bool:
        """Whether any queue has more columns, `groups_C`, than its power fills."""
        if not self.is_limited_D11.any():
            return False
        is_over_C = groups_C > self.full_power_groups_Q[queue_C] * (1.0 + 1e-9)
        return bool(np.any(is_over_C & (queue_C < self._empty_queue)))

    def worth(self, report_DFU: Array) -> Array:
        """The relative value of the n-th group for each user (D, N, U); see `SchemeLookup.worth`."""
        most_DU = self.full_power_groups_Q[:-1].reshape(len(DIRECTIONS), -1)
        return self._parameters.scheme_lookup.worth(report_DFU.mean(axis=1), most_DU, self._parameters.groups)
