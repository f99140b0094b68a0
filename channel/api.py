"""A scenario simulated from Python, and what every user got as arrays."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from channel.cell.build_cell import cell_of
from channel.cell.cell import CellResult
from channel.cell.statistics import DirectionStatistics
from channel.core.arrays import Array
from channel.scenario.load import Scenario, changed, load


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Simulation:
    """A scenario and what its cell did; arrays have an entry for each user, (U,)."""

    scenario: Scenario
    result: CellResult

    @property
    def users(self) -> int:
        """The number of users U."""
        return int(self.result.energy_j.size)

    @property
    def up(self) -> DirectionStatistics:
        """The uplink: sums (U,), and traces over time by `DirectionStatistics.trace`."""
        return self.result.outcomes["up"]

    @property
    def down(self) -> DirectionStatistics:
        """The downlink; see `up`."""
        return self.result.outcomes["down"]

    @property
    def energy_j(self) -> Array:
        """The energy (U,) that each device took: sending, receiving and idle."""
        return self.result.energy_j

    def columns(self, direction: str) -> dict[str, Array]:
        """What each user got "up" or "down", arrays (U,) by a name with the unit.

        `delay_s` lasts from the start of the traffic to the last bit of a finite transfer; nan while
        that is not through, and for a full buffer. Rates are nan where a user sent nothing.
        """
        outcome = self.result.outcomes[direction]
        return {
            "mean_sinr_db": self.result.mean_sinr_db[direction],
            "throughput_bps": outcome.throughput_bps,
            "delay_s": outcome.finish_s - self.scenario.traffic.start_s,
            "error_rate": outcome.error_rate,
            "retransmissions": outcome.retransmissions,
            "loss_rate": outcome.loss_rate,
            "airtime_s": outcome.airtime_s,
            "finish_s": outcome.finish_s,
            "device_energy_j": self.energy_j,
        }

    def __repr__(self) -> str:
        rates = (
            f"{name} {outcome.throughput_bps.sum() / 1e6:.4g} Mbit/s"
            for name, outcome in self.result.outcomes.items()
        )
        return f"<Simulation of {self.users} users for {self.result.duration_s:g} s: {', '.join(rates)}>"


def simulate(
    scenario: str | os.PathLike[str] | Scenario,
    *,
    duration_s: float | None = None,
    seed: int | None = None,
    bin_s: float = 0.01,
    **tables: Mapping[str, Any],
) -> Simulation:
    """Runs the cell of a scenario from time 0, by default for the scenario's own duration.

    `scenario` is a name of `channel.scenario_names()`, the path of a .toml file, or of a .mat or .npz file of
    channel taps. `tables` put keys over it, such as `place={"users": 4}`; traces are in bins of `bin_s`. The
    same scenario and seed give the same numbers, to the last bit.

    Raises BadParameter for unknown names and keys, and for values out of range.
    """
    made = scenario if isinstance(scenario, Scenario) else load(os.fspath(scenario))
    made = changed(made, tables)
    made = made if seed is None else replace(made, seed=seed)
    made = made if duration_s is None else replace(made, duration_s=duration_s)
    return Simulation(scenario=made, result=cell_of(made).simulate(made.duration_s, bin_s=bin_s))
