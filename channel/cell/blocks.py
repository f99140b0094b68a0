"""Transport blocks on their way: who sent them, how fast, in which groups, and what each try was worth.

Axes: T blocks; F resource-block groups; H groups that blocks hold; M tries. A queue is a user in one
direction.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.core.units import ratio_to_db

FAINTEST = 1e-30
"""A SINR of nothing at all is taken for this, whose decibels are finite."""

Whole = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks, each for its next try, in slot `slot_T` and the groups of `held_FT`.

    `payload_T` is how many of a block's bits are data and not padding, `place_T` where they begin in
    the order of sending. `tries_T` counts the tries made, `past_db_MT` the effective SINR of each,
    `luck_T` is the margin that a block was born with.
    """

    NOT_TRIED_DB: ClassVar[float] = -300.0

    queue_T: Whole
    slot_T: Whole
    scheme_T: Whole
    groups_T: Whole
    payload_T: Array
    place_T: Array
    tries_T: Whole
    luck_T: Array
    past_db_MT: Array
    held_FT: NDArray[np.bool_]

    @classmethod
    def none(cls, groups: int, tries: int) -> Self:
        """No blocks at all."""
        whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(
            queue_T=whole,
            slot_T=whole,
            scheme_T=whole,
            groups_T=whole,
            payload_T=real,
            place_T=real,
            tries_T=whole,
            luck_T=real,
            past_db_MT=np.zeros((tries, 0)),
            held_FT=np.zeros((groups, 0), dtype=np.bool_),
        )

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return int(self.queue_T.size)

    def followed_by(self, other: Self) -> Self:
        """Both."""
        if not self.count or not other.count:
            return self if self.count else other
        return self.joined([self, other])

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """All of them, in order; at least one part."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in _COLUMNS))

    def at(self, index: Whole | NDArray[np.bool_] | slice) -> Self:
        """Those of them."""
        return type(self)(*(getattr(self, name)[..., index] for name in _COLUMNS))

    def cells(self) -> tuple[Whole, Whole]:
        """Every group that is held, and by which block, group by group: two (H,)."""
        held = np.flatnonzero(self.held_FT)
        return held // self.count, held % self.count

    def effective_db(self, sinr_H: Array, block_H: Whole, beta_T: Array) -> Array:
        """Each block's exponential effective SINR (T,), from those in the groups that it holds.

        `eesm` with a number of groups of its own for every block.
        """
        least_T = np.full(self.count, np.inf)
        np.minimum.at(least_T, block_H, sinr_H)
        part_H = np.exp((least_T[block_H] - sinr_H) / beta_T[block_H])
        mean_T = np.bincount(block_H, part_H, self.count) / self.groups_T
        return ratio_to_db(np.maximum(least_T - beta_T * np.log(mean_T), FAINTEST))


_COLUMNS = tuple(one.name for one in fields(Blocks))


@dataclass(frozen=True, eq=False)
class Tries:
    """What became of blocks, a try each: whether it `came`, and whether it was given up.

    `effective_db_T` is the try's own SINR, `error_rate_T` what the law said of all its tries together,
    `radiated_j_T` the energy that it put on the air.
    """

    blocks: Blocks
    came_T: NDArray[np.bool_]
    is_lost_T: NDArray[np.bool_]
    effective_db_T: Array
    error_rate_T: Array
    radiated_j_T: Array

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """All of them, in order; at least one part."""
        values = (np.concatenate([getattr(part, name) for part in parts]) for name in _VALUES)
        return cls(Blocks.joined([part.blocks for part in parts]), *values)

    def at(self, index: Whole | NDArray[np.bool_]) -> Self:
        """Those of them."""
        return type(self)(self.blocks.at(index), *(getattr(self, name)[index] for name in _VALUES))


_VALUES = tuple(one.name for one in fields(Tries))[1:]
