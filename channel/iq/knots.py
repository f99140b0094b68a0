"""The instants at which the gains of a channel are given, as sample numbers.

Between two knots the gains change linearly, or are held.
"""

import bisect
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from channel.core.arrays import Array

FOREVER = 1 << 62
"""A sample number that is never reached."""


class Knots(Protocol):
    """Increasing instants; knot 0 is sample 0."""

    def before(self, sample: int) -> int:
        """The last knot at or before this sample."""
        ...

    def sample(self, knot: int) -> int:
        """The sample number of a knot."""
        ...

    def time_s(self, knot: int) -> float:
        """The time at which the gains of a knot are evaluated."""
        ...


@dataclass(frozen=True, kw_only=True)
class RegularKnots:
    """A knot every `step_s`; only knot 0 if that is infinite."""

    step_s: float
    rate_hz: float

    def before(self, sample: int) -> int:
        if math.isinf(self.step_s):
            return 0
        knot = int(sample / (self.step_s * self.rate_hz))
        while self.sample(knot + 1) <= sample:
            knot += 1
        while self.sample(knot) > sample:
            knot -= 1
        return knot

    def sample(self, knot: int) -> int:
        if math.isinf(self.step_s):
            return FOREVER if knot else 0
        return round(knot * self.step_s * self.rate_hz)

    def time_s(self, knot: int) -> float:
        return knot * self.step_s if knot else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class PeriodicKnots:
    """A knot at each time of a recording but its last, which is the period after which they repeat."""

    time_s_T: Array
    rate_hz: float

    def before(self, sample: int) -> int:
        period = int(sample / (self._period_s * self.rate_hz))
        while self.sample((period + 1) * self._rows) <= sample:
            period += 1
        while self.sample(period * self._rows) > sample:
            period -= 1
        rows = range(self._rows)
        return (
            period * self._rows
            + bisect.bisect(rows, sample, key=lambda row: self.sample(period * self._rows + row))
            - 1
        )

    def sample(self, knot: int) -> int:
        return round(self.time_s(knot) * self.rate_hz)

    def time_s(self, knot: int) -> float:
        period, row = divmod(knot, self._rows)
        return period * self._period_s + float(self.time_s_T[row])

    @property
    def _rows(self) -> int:
        return self.time_s_T.size - 1

    @cached_property
    def _period_s(self) -> float:
        return float(self.time_s_T[-1])

    @cached_property
    def shortest_s(self) -> float:
        """The shortest time between two knots."""
        return float(np.diff(self.time_s_T).min())
