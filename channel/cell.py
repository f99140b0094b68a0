"""A cell: many users of one base station, both directions, slot by slot.

Fading, shadowing and interference give an SINR in every resource-block group; the scheduler hands groups out
by what users reported; an outer loop corrects the modulation and coding; the law of block errors decides, and
HARQ tries again. Users share the spectrum, so ten that send at once slow each other down.
"""

from dataclasses import dataclass

import numpy as np

from channel.air import Air
from channel.device import Device
from channel.errors import BadParameter
from channel.lane import Lane, Rules
from channel.link import DIRECTIONS
from channel.outcome import Outcome
from channel.queue import Demand
from channel.values import Array, above


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """What a simulation gave: an outcome for "up" and "down", and the Joules that each user's device took.

    `position_U2` and `mean_sinr_db` hold where users were at the start and what they heard there, without
    fast fading; the downlink's is that of every group, the uplink's that of a group alone.
    """

    duration_s: float
    outcomes: dict[str, Outcome]
    energy_j: Array
    position_U2: Array
    mean_sinr_db: dict[str, Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """`airs` and `demands` for "up" and "down"; the same seed gives the same run, to the last bit.

    Raises BadParameter where a direction is missing or numbers of users differ.
    """

    seed: int
    rules: Rules
    airs: dict[str, Air]
    demands: dict[str, Demand]
    device: Device

    def __post_init__(self) -> None:
        for name, got in (("airs", self.airs), ("demands", self.demands)):
            if set(got) != set(DIRECTIONS):
                raise BadParameter(f"{name} must hold {' and '.join(DIRECTIONS)}, got {', '.join(got)}")
        counts = {demand.start_s.size for demand in self.demands.values()}
        counts |= {air.place_U2(0).shape[0] for air in self.airs.values()}
        if len(counts) != 1:
            raise BadParameter(f"airs and demands must have equally many users, got {sorted(counts)}")

    @property
    def users(self) -> int:
        """How many there are."""
        return int(self.demands["up"].start_s.size)

    def simulate(self, duration_s: float, *, bin_s: float = 0.01) -> Result:
        """Runs from time 0 until `duration_s`, whole grants only, or until all transfers are done.

        Raises BadParameter unless both times are above 0.
        """
        above("duration_s", duration_s, 0.0)
        grant_s = self.rules.slot_s * self.rules.grant_slots
        grants = max(round(duration_s / grant_s), 1)
        lanes = [self._lane(direction, grants * grant_s, bin_s) for direction in DIRECTIONS]
        for grant in range(grants):
            for lane in lanes:
                lane.step(grant)
            if all(lane.is_done for lane in lanes):
                break
        outcomes = {direction: lane.outcome for direction, lane in zip(DIRECTIONS, lanes, strict=True)}
        return Result(
            duration_s=grants * grant_s,
            outcomes=outcomes,
            energy_j=self._energy_j(outcomes, grants * grant_s),
            position_U2=self.airs["up"].place_U2(0),
            mean_sinr_db={direction: air.mean_sinr_db(0) for direction, air in self.airs.items()},
        )

    def _lane(self, direction: str, duration_s: float, bin_s: float) -> Lane:
        return Lane(
            self.rules,
            self.airs[direction],
            self.demands[direction],
            Outcome.empty(self.users, duration_s=duration_s, bin_s=bin_s),
            direction=direction,
            seed=self.seed,
        )

    def _energy_j(self, outcomes: dict[str, Outcome], duration_s: float) -> Array:
        return self.device.energy_j(
            radiated_j=outcomes["up"].radiated_j,
            send_s=outcomes["up"].airtime_s,
            receive_s=outcomes["down"].airtime_s,
            duration_s=np.asarray(duration_s),
        )
