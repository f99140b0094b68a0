"""Path losses prescribed by a scenario's [links] or [taps] table instead of positions.

Axes: U users.
"""

from dataclasses import dataclass

import numpy as np

from channel.core.arrays import Array, Real
from channel.core.units import ratio_to_db
from channel.propagation.recorded_taps import NodeTaps
from channel.scenario.load import Scenario


@dataclass(frozen=True, kw_only=True, eq=False)
class PrescribedLosses:
    """A constant loss in decibels per user (U,), independent of position. Always line of sight."""

    loss_db_U: Array

    @property
    def is_same_everywhere(self) -> bool:
        return True

    def path_loss_db(self, distance_2d_m: Real, frequency_hz: Real, is_los: object) -> Array:
        """The losses (..., U); the last axis of the distances must be all users."""
        return np.broadcast_to(self.loss_db_U, np.shape(distance_2d_m))

    def los_probability(self, distance_2d_m: Real) -> Array:
        return np.ones(np.shape(distance_2d_m))


def prescribed_losses(scenario: Scenario, direction: str, taps: NodeTaps | None) -> PrescribedLosses | None:
    """The prescribed losses of this direction, or None if positions determine them.

    With taps these are the losses of their mean power. Raises BadParameter for more users than nodes.
    """
    users, beside_db = scenario.place.users, scenario.place.loss_db
    if taps is not None:
        return PrescribedLosses(loss_db_U=beside_db - ratio_to_db(taps.users_power(direction, users)))
    if not scenario.links.loss_db:
        return None
    loss_db = np.asarray(scenario.links.loss_db)
    own_db = loss_db[1 : users + 1, 0] if direction == "up" else loss_db[0, 1 : users + 1]
    return PrescribedLosses(loss_db_U=beside_db + own_db)
