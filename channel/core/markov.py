"""A two-state Markov process in continuous time that can be evaluated at any time, in any order."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, above
from channel.core.rng import stream

_PER_BLOCK = 32.0
"""Mean number of refreshes in a block: a block without any has probability exp(-32)."""


@dataclass(frozen=True, kw_only=True)
class TwoState:
    """A process that is on for `mean_on_s` and off for `mean_off_s` on average, both exponential.

    It is sampled by uniformisation, which needs no history: at the points of a Poisson process of rate
    1 / mean_on_s + 1 / mean_off_s the state is redrawn, on with probability `duty`. The state at t is thus
    the mark of the last point before t, and the points of each block of time come from a stream named
    after `name` and the block. The autocorrelation is exp(-rate lag).

    Raises BadParameter unless both means are above 0.
    """

    seed: int
    name: tuple[str | int, ...]
    mean_on_s: float
    mean_off_s: float

    def __post_init__(self) -> None:
        above("mean_on_s", self.mean_on_s, 0.0)
        above("mean_off_s", self.mean_off_s, 0.0)

    @property
    def duty(self) -> float:
        """The share of time in the on state."""
        return self.mean_on_s / (self.mean_on_s + self.mean_off_s)

    @property
    def refresh_hz(self) -> float:
        """The rate at which the state is redrawn: 1 / mean_on_s + 1 / mean_off_s."""
        return 1.0 / self.mean_on_s + 1.0 / self.mean_off_s

    def is_on(self, time_s: Array) -> NDArray[np.bool_]:
        """Whether the process is on at each time in seconds, of any shape, order and sign."""
        asked = np.asarray(time_s, dtype=np.float64)
        blocks_long = asked * (self.refresh_hz / _PER_BLOCK)
        block = np.floor(blocks_long).astype(np.int64)
        state = np.empty(asked.shape, dtype=np.bool_)
        for number in np.unique(block):
            here = block == number
            state[here] = self._within(int(number), blocks_long[here] - float(number))
        return state

    def _within(self, block: int, share: Array) -> NDArray[np.bool_]:
        points, marks = _refreshes(self.seed, self.name, block, self.duty)
        last = np.searchsorted(points, share, side="right") - 1
        before = block - 1
        while not (earlier := _refreshes(self.seed, self.name, before, self.duty)[1]).size:
            before -= 1
        return np.where(last >= 0, marks[last] if marks.size else False, earlier[-1])


@lru_cache(maxsize=4096)
def _refreshes(
    seed: int, name: tuple[str | int, ...], block: int, duty: float
) -> tuple[Array, NDArray[np.bool_]]:
    """The points of one block, as sorted fractions of it, and the state that each one draws."""
    rng = stream(seed, "two-state", *name, block)
    points = np.sort(rng.random(int(rng.poisson(_PER_BLOCK))))
    return points, rng.random(points.size) < duty
