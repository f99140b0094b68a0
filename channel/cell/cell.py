"""System-level simulation of one cell, both directions, slot by slot.

Fading, shadowing and interference give the SINR of every resource-block group; the scheduler allocates groups
by reported channel quality; outer-loop link adaptation corrects the MCS; the block error law decides
decoding, and HARQ retransmits. Users share the spectrum: simultaneous transfers slow each other down.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from channel.cell.backlog import Backlog
from channel.cell.mac import Mac
from channel.cell.parameters import CellParameters
from channel.cell.statistics import DirectionStatistics, StatisticsAccumulator
from channel.cell.traffic import Demand
from channel.core.arrays import Array, above
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS
from channel.core.units import ratio_to_db
from channel.phy.device import Device
from channel.propagation.directions import BothDirections
from channel.propagation.sinr import SinrModel

_MAX_ROWS = 20_000_000
"""Rows per user and time bin: about 2 GB of traces for both directions."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CellResult:
    """The result of a simulation: statistics of "up" and "down", and the energy (U,) of each user's device.

    `position_U2` and `mean_sinr_db` are the initial positions in metres and the SINRs there without fast
    fading: of every group in the downlink, of a single group in the uplink.
    """

    duration_s: float
    outcomes: dict[str, DirectionStatistics]
    energy_j: Array
    position_U2: Array
    mean_sinr_db: dict[str, Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class Cell:
    """A cell; `sinr_models` and `demands` are by direction. Runs with equal seeds are bit-identical.

    Raises BadParameter if a direction is missing or numbers of users differ.
    """

    seed: int
    parameters: CellParameters
    sinr_models: dict[str, SinrModel]
    demands: dict[str, Demand]
    device: Device

    def __post_init__(self) -> None:
        for name, got in (("sinr_models", self.sinr_models), ("demands", self.demands)):
            if set(got) != set(DIRECTIONS):
                raise BadParameter(f"{name} must hold {' and '.join(DIRECTIONS)}, got {', '.join(got)}")
        counts = {demand.start_s.size for demand in self.demands.values()}
        counts |= {air.place_U2(0).shape[0] for air in self.sinr_models.values()}
        if len(counts) != 1:
            raise BadParameter(f"sinr_models and demands must have equally many users, got {sorted(counts)}")

    @property
    def users(self) -> int:
        """The number of users."""
        return int(self.demands["up"].start_s.size)

    def require_coverage(self, users: Iterable[int]) -> None:
        """Raises BadParameter, with the reason, for the first of these users that is always out of coverage.

        Such a user would never be scheduled, and its transfers would never end.
        """
        for user in users:
            for direction in DIRECTIONS:
                if self.is_out_of_coverage[direction][user]:
                    max_db = float(ratio_to_db(self.sinr_models[direction].max_sinr()[user]))
                    needed_db = float(ratio_to_db(self.parameters.scheme_lookup.threshold_I[0]))
                    raise BadParameter(
                        f"user {user} is out of coverage, direction {direction}: its SINR is never above "
                        f"{max_db:.1f} dB, and the slowest scheme of {self.parameters.table.name} needs "
                        f"{needed_db:.1f} dB"
                    )

    @cached_property
    def is_out_of_coverage(self) -> dict[str, NDArray[np.bool_]]:
        """For each direction, the users (U,) for whom no MCS is ever feasible."""
        # A margin of 0.5 %, since the steps of `SchemeLookup.efficiency` start slightly early.
        least = 0.995 * self.parameters.scheme_lookup.threshold_I[0]
        return {name: np.asarray(self.sinr_models[name].max_sinr() < least) for name in DIRECTIONS}

    @property
    def out_of_coverage_Q(self) -> NDArray[np.bool_]:
        """`is_out_of_coverage` by queue (Q,), direction x users + user."""
        return np.concatenate([self.is_out_of_coverage[name] for name in DIRECTIONS])

    def simulate(self, duration_s: float, *, bin_s: float = 0.01) -> CellResult:
        """Simulates from time 0 to `duration_s`, in whole grants, or until all transfers are done.

        Raises BadParameter unless both times are above 0, and if the traces of all users would be too large.
        """
        above("duration_s", duration_s, 0.0)
        rows = self.users * duration_s / float(above("bin_s", bin_s, 0.0))
        if rows > _MAX_ROWS:
            raise BadParameter(
                f"duration_s must be at most {_MAX_ROWS * bin_s / self.users:g} for the traces of "
                f"{self.users} users, got {duration_s:g}"
            )
        parameters = self.parameters
        grants = max(round(duration_s / parameters.grant_s), 1)
        length_s = grants * parameters.grant_s
        empty = {
            name: DirectionStatistics.empty(self.users, duration_s=length_s, bin_s=bin_s)
            for name in DIRECTIONS
        }
        backlog, tally = self._backlog(), StatisticsAccumulator(empty, parameters.slot_s)
        lanes = Mac(
            parameters,
            BothDirections(sinr_models=self.sinr_models, seed=self.seed),
            backlog,
            self.out_of_coverage_Q,
        )
        for tries in lanes.tries(0, grants):
            tally.add(tries)
        tally.flush()
        left = backlog.left_Q[:-1].reshape(len(DIRECTIONS), -1)
        for left_U, outcome in zip(left, tally.outcomes.values(), strict=True):
            is_over = (left_U == 0.0) & (outcome.in_flight_bits == 0.0) & (outcome.sent_bits > 0.0)
            outcome.finish_s[is_over] = outcome.last_end_s[is_over]
        return CellResult(
            duration_s=length_s,
            outcomes=tally.outcomes,
            energy_j=self._energy_j(tally.outcomes, length_s),
            position_U2=self.sinr_models["up"].place_U2(0),
            mean_sinr_db={direction: air.mean_sinr_db(0) for direction, air in self.sinr_models.items()},
        )

    def _backlog(self) -> Backlog:
        backlog = Backlog(len(DIRECTIONS) * self.users, memory_grants=self.parameters.memory_grants)
        for number, direction in enumerate(DIRECTIONS):
            demand = self.demands[direction]
            for user in np.flatnonzero(demand.payload_bytes).tolist():
                grant = self.parameters.ready_grant(direction, float(demand.start_s[user]))
                backlog.add(grant, number * self.users + user, 8.0 * float(demand.payload_bytes[user]))
        return backlog

    def _energy_j(self, outcomes: dict[str, DirectionStatistics], duration_s: float) -> Array:
        return self.device.energy_j(
            radiated_j=outcomes["up"].radiated_j,
            send_s=outcomes["up"].airtime_s,
            receive_s=outcomes["down"].airtime_s,
            duration_s=np.asarray(duration_s),
        )
