"""Power limits of users: the number of groups at full group power, and the value of a further one.

Axes: F resource-block groups; N numbers of groups, as many as F; C columns, direction x F + group; U users, L
those whose power does not fill the whole band; Q queues, direction x U + user, and a last one that stays
empty.
"""

import numpy as np

from channel.cell.blocks import IntArray
from channel.cell.link_adaptation import SchemeLookup
from channel.cell.parameters import CellParameters
from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.propagation.directions import BothDirections
from channel.propagation.fading_grid import SLOTS

_ROUNDING = 1e-9
"""Power that is missing by this share is rounding."""


class GroupWorth:
    """The capacity that the n-th group adds to a user's others, relative to the first.

    `full_power_groups_U` is the number of groups that can have full group power at once; more groups share
    the sender's power.
    """

    def __init__(self, lookup: SchemeLookup, full_power_groups_U: Array, groups: int) -> None:
        self._lookup = lookup
        self._limited_L = np.flatnonzero(full_power_groups_U * (1.0 + _ROUNDING) < groups)
        self._worth_NU = np.ones((groups, full_power_groups_U.size))
        self._number_N1 = np.arange(1.0, groups + 1.0)[:, None]
        full_power_groups_L = full_power_groups_U[self._limited_L]
        self._power_NL = np.minimum(1.0, full_power_groups_L / self._number_N1)
        self._is_full_NL = self._number_N1 <= full_power_groups_L * (1.0 + _ROUNDING)

    @property
    def is_constant(self) -> bool:
        """Whether every user can fill the whole band."""
        return not self._limited_L.size

    def of(self, sinr_FU: Array) -> Array:
        """The worth (N, U) at these SINRs at full group power, valid until the next call.

        Capacity is log(1 + SINR), at the mean over the groups, limited at the threshold of the fastest
        scheme; below that of the slowest, a group adds nothing.
        """
        threshold_I = self._lookup.threshold_I
        each_NL = sinr_FU.mean(axis=0)[self._limited_L] * self._power_NL
        total_NL = self._number_N1 * np.log1p(np.minimum(each_NL, threshold_I[-1]))
        first_L = np.maximum(total_NL[0], np.finfo(np.float64).tiny)
        total_NL[1:] -= total_NL[:-1]
        total_NL /= first_L
        total_NL[each_NL < threshold_I[0]] = 0.0
        total_NL[self._is_full_NL] = 1.0
        self._worth_NU[:, self._limited_L] = total_NL
        return self._worth_NU


class PowerLimits:
    """The power of users at the grant of the last `look_up`.

    `worth` has the directions in which a user's power does not fill the whole band.
    """

    def __init__(self, parameters: CellParameters, directions: BothDirections) -> None:
        self._parameters, self._directions, self._slot_block = parameters, directions, -1
        self._full_power_groups_Q: Array = np.empty(0)
        self.worth: dict[int, GroupWorth] = {}

    def look_up(self, grant: int) -> None:
        """Updates the limits to a grant; they are constant within a block of slots."""
        number = grant * self._parameters.grant_slots // SLOTS
        if number == self._slot_block:
            return
        self._slot_block, groups = number, self._parameters.groups
        self._full_power_groups_Q = self._directions.slot_block(number).full_power_groups_Q.copy()
        # The queue that stays empty sends nothing, so its columns take no power.
        self._full_power_groups_Q[-1] = len(DIRECTIONS) * groups
        full_power_groups_DU = self._full_power_groups_Q[:-1].reshape(len(DIRECTIONS), -1)
        worth_D = [
            GroupWorth(self._parameters.scheme_lookup, row_U, groups) for row_U in full_power_groups_DU
        ]
        self.worth = {number: worth for number, worth in enumerate(worth_D) if not worth.is_constant}

    def full_power_share(self, queue_C: IntArray, groups_C: IntArray) -> Array:
        """Each queue's total power (C,) relative to full power in its `groups_C` columns."""
        return self._full_power_groups_Q[queue_C] / groups_C


def is_overfull(full_power_share_C: Array) -> bool:
    """Whether any queue has more columns than its power fills."""
    return bool(full_power_share_C[full_power_share_C.argmin()] < 1.0 - _ROUNDING)
