"""Losses of links that a scenario gives itself, in [links] or [taps], instead of places and distances.

Axes: U users.
"""

from dataclasses import dataclass

import numpy as np

from channel.core.arrays import Array, Real
from channel.core.units import ratio_to_db
from channel.propagation.recorded_taps import NodeTaps
from channel.scenario.load import Scenario


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenLosses:
    """A loss for each user (U,), wherever it stands. Always in sight."""

    loss_db_U: Array

    @property
    def is_same_everywhere(self) -> bool:
        """See `Losses`: places are no matter."""
        return True

    def path_loss_db(self, distance_2d_m: Real, frequency_hz: Real, is_los: object) -> Array:
        """The losses, for the distances (U,) of all users at once."""
        return np.broadcast_to(self.loss_db_U, np.shape(distance_2d_m))

    def los_probability(self, distance_2d_m: Real) -> Array:
        """One, for everybody."""
        return np.ones(np.shape(distance_2d_m))


def given_losses(scenario: Scenario, direction: str, taps: NodeTaps | None) -> GivenLosses | None:
    """What the links between users and base station lose in this direction, or None where places decide.

    With taps it is what they lose in the mean over time. Raises BadParameter for more users than nodes.
    """
    users, beside_db = scenario.place.users, scenario.place.loss_db
    if taps is not None:
        return GivenLosses(loss_db_U=beside_db - ratio_to_db(taps.users_power(direction, users)))
    if not scenario.links.loss_db:
        return None
    loss_db = np.asarray(scenario.links.loss_db)
    own_db = loss_db[1 : users + 1, 0] if direction == "up" else loss_db[0, 1 : users + 1]
    return GivenLosses(loss_db_U=beside_db + own_db)
