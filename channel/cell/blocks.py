"""Transport blocks in flight, and the outcomes of their transmissions.

Axes: T blocks; F resource-block groups; H groups allocated to blocks; M transmissions of a block. A queue is
a user in one direction.
"""

from dataclasses import dataclass, fields
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.core.units import ratio_to_db

MIN_SINR = 1e-30
"""The floor of an SINR, so that its decibels are finite."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Blocks with their next transmission in slot `slot_T` and the groups of `held_FT`.

    `payload_T` is the number of data bits without padding, `place_T` their position in the order of
    transmission. `tries_T` counts past transmissions, `past_db_MT` holds their effective SINRs, and
    `uniform_T` is the uniform draw that decides decoding.
    """

    NOT_TRIED_DB: ClassVar[float] = -300.0

    queue_T: IntArray
    slot_T: IntArray
    scheme_T: IntArray
    groups_T: IntArray
    payload_T: Array
    place_T: Array
    tries_T: IntArray
    uniform_T: Array
    past_db_MT: Array
    held_FT: NDArray[np.bool_]

    @classmethod
    def none(cls, groups: int, tries: int) -> Self:
        """An empty set of blocks."""
        whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
        return cls(
            queue_T=whole,
            slot_T=whole,
            scheme_T=whole,
            groups_T=whole,
            payload_T=real,
            place_T=real,
            tries_T=whole,
            uniform_T=real,
            past_db_MT=np.zeros((tries, 0)),
            held_FT=np.zeros((groups, 0), dtype=np.bool_),
        )

    @property
    def count(self) -> int:
        """The number of blocks."""
        return int(self.queue_T.size)

    def followed_by(self, other: Self) -> Self:
        """These blocks, then the others."""
        if not self.count or not other.count:
            return self if self.count else other
        return self.joined([self, other])

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The concatenation of at least one part."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in _COLUMNS))

    def at(self, index: IntArray | NDArray[np.bool_] | slice) -> Self:
        """The selected blocks."""
        return type(self)(*(getattr(self, name)[..., index] for name in _COLUMNS))

    def cells(self) -> tuple[IntArray, IntArray]:
        """Every allocated group (H,) and its block (H,), sorted by group."""
        held = np.flatnonzero(self.held_FT)
        return held // self.count, held % self.count

    def effective_db(self, sinr_H: Array, block_H: IntArray, beta_T: Array) -> Array:
        """The exponential effective SINR (T,) in decibels of each block, from the SINRs (H,) of its groups.

        Like `eesm`, for blocks with different numbers of groups.
        """
        least_T = np.full(self.count, np.inf)
        np.minimum.at(least_T, block_H, sinr_H)
        part_H = np.exp((least_T[block_H] - sinr_H) / beta_T[block_H])
        mean_T = np.bincount(block_H, part_H, self.count) / self.groups_T
        return ratio_to_db(np.maximum(least_T - beta_T * np.log(mean_T), MIN_SINR))


_COLUMNS = tuple(one.name for one in fields(Blocks))


@dataclass(frozen=True, eq=False)
class Transmissions:
    """The outcomes of one transmission per block: `decoded_T` is decoded, `is_lost_T` given up.

    `effective_db_T` is the effective SINR of this transmission alone, `error_rate_T` the predicted error
    rate after combining, `radiated_j_T` the radiated energy.
    """

    blocks: Blocks
    decoded_T: NDArray[np.bool_]
    is_lost_T: NDArray[np.bool_]
    effective_db_T: Array
    error_rate_T: Array
    radiated_j_T: Array

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """The concatenation of at least one part."""
        values = (np.concatenate([getattr(part, name) for part in parts]) for name in _VALUES)
        return cls(Blocks.joined([part.blocks for part in parts]), *values)

    def at(self, index: IntArray | NDArray[np.bool_]) -> Self:
        """The selected outcomes."""
        return type(self)(self.blocks.at(index), *(getattr(self, name)[index] for name in _VALUES))


_VALUES = tuple(one.name for one in fields(Transmissions))[1:]
