"""Power limits of users: the number of groups at full group power, and the value of a further one.

Axes: D directions; F resource-block groups; N numbers of groups, as many as F; C columns, direction x F +
group; U users; Q queues, direction x U + user, and a last one that stays empty.
"""

import numpy as np
from numpy.typing import NDArray

from channel.cell.blocks import Whole
from channel.cell.parameters import Rules
from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.propagation.directions import BothDirections
from channel.propagation.fading_grid import SLOTS


class Powers:
    """The groups `most_groups_Q` that each queue's power fills at the grant of the last `look_up`.

    `is_limited_D11` marks directions in which a user cannot fill the whole band.
    """

    def __init__(self, rules: Rules, airs: BothDirections) -> None:
        self._rules, self._airs, self._span = rules, airs, -1
        self._nobody = len(DIRECTIONS) * airs.users
        self.most_groups_Q: Array = np.ones(self._nobody + 1)
        self.is_limited_D11: NDArray[np.bool_] = np.zeros((len(DIRECTIONS), 1, 1), dtype=np.bool_)

    def look_up(self, grant: int) -> None:
        """Updates the limits to a grant; they are constant within a block of slots."""
        number = grant * self._rules.grant_slots // SLOTS
        if number != self._span:
            self._span, self.most_groups_Q = number, self._airs.span(number).most_groups_Q
            is_limited_Q = self.most_groups_Q[:-1] < self._rules.groups * (1.0 - 1e-9)
            is_limited_DU = is_limited_Q.reshape(len(DIRECTIONS), -1)
            self.is_limited_D11 = np.asarray(is_limited_DU.any(axis=1))[:, None, None]

    def is_overfull(self, queue_C: Whole, groups_C: Whole) -> bool:
        """Whether any queue has more columns, `groups_C`, than its power fills."""
        if not self.is_limited_D11.any():
            return False
        is_over_C = groups_C > self.most_groups_Q[queue_C] * (1.0 + 1e-9)
        return bool(np.any(is_over_C & (queue_C < self._nobody)))

    def worth(self, report_DFU: Array) -> Array:
        """The relative value of the n-th group for each user (D, N, U); see `Reach.worth`."""
        most_DU = self.most_groups_Q[:-1].reshape(len(DIRECTIONS), -1)
        return self._rules.reach.worth(report_DFU.mean(axis=1), most_DU, self._rules.groups)
