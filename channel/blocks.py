"""Transport blocks on their way: who sent them, how fast, in which groups, and what each try was worth.

Axes: T blocks; S slots of a grant; F resource-block groups; M tries; U users.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.scheduler import NOBODY
from channel.units import ratio_to_db
from channel.values import Array

_NOT_TRIED_DB = -300.0
_FAINTEST = 1e-30
"""A SINR of nothing at all is taken for this, whose decibels are finite."""

Whole = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Blocks:
    """Blocks of one grant. `held_SF` says which of them, or NOBODY, is sent in a slot's group.

    `payload_T` is how many of a block's bits are data and not padding; `tries_T` counts
    the tries made, `past_db_TM` the effective SINR of each, `luck_T` the margin that a block was born with.
    """

    user_T: Whole
    slot_T: Whole
    scheme_T: Whole
    groups_T: Whole
    payload_T: Array
    tries_T: Whole
    past_db_TM: Array
    luck_T: Array
    held_SF: Whole

    @classmethod
    def new(
        cls, scheme_U: Whole, groups_SU: Whole, payload_SU: Array, owner_SF: Whole, luck_SU: Array, tries: int
    ) -> Self:
        """First tries: one block for each slot and user that has a payload there."""
        slot_T, user_T = np.nonzero(payload_SU > 0.0)
        index_SU = np.full(payload_SU.shape, NOBODY, dtype=np.int64)
        index_SU[slot_T, user_T] = np.arange(user_T.size)
        held_SF = index_SU[np.arange(owner_SF.shape[0])[:, None], owner_SF]
        return cls(
            user_T=user_T,
            slot_T=slot_T,
            scheme_T=scheme_U[user_T],
            groups_T=groups_SU[slot_T, user_T],
            payload_T=payload_SU[slot_T, user_T],
            tries_T=np.zeros(user_T.size, dtype=np.int64),
            past_db_TM=np.full((user_T.size, tries), _NOT_TRIED_DB),
            luck_T=luck_SU[slot_T, user_T],
            held_SF=np.where(owner_SF == NOBODY, NOBODY, held_SF),
        )

    @property
    def count(self) -> int:
        """How many blocks there are."""
        return int(self.user_T.size)

    def followed_by(self, other: "Blocks") -> "Blocks":
        """Both, where no group of a slot holds a block of each."""
        moved = np.where(other.held_SF == NOBODY, NOBODY, other.held_SF + self.count)
        return Blocks(
            user_T=np.concatenate([self.user_T, other.user_T]),
            slot_T=np.concatenate([self.slot_T, other.slot_T]),
            scheme_T=np.concatenate([self.scheme_T, other.scheme_T]),
            groups_T=np.concatenate([self.groups_T, other.groups_T]),
            payload_T=np.concatenate([self.payload_T, other.payload_T]),
            tries_T=np.concatenate([self.tries_T, other.tries_T]),
            past_db_TM=np.concatenate([self.past_db_TM, other.past_db_TM]),
            luck_T=np.concatenate([self.luck_T, other.luck_T]),
            held_SF=np.maximum(self.held_SF, moved),
        )

    def only(self, kept_T: NDArray[np.bool_]) -> "Blocks":
        """Those of them; the groups of the rest are free."""
        number = np.append(np.where(kept_T, np.cumsum(kept_T) - 1, NOBODY), NOBODY)
        return Blocks(
            user_T=self.user_T[kept_T],
            slot_T=self.slot_T[kept_T],
            scheme_T=self.scheme_T[kept_T],
            groups_T=self.groups_T[kept_T],
            payload_T=self.payload_T[kept_T],
            tries_T=self.tries_T[kept_T],
            past_db_TM=self.past_db_TM[kept_T],
            luck_T=self.luck_T[kept_T],
            held_SF=number[self.held_SF],
        )

    def effective_db(self, sinr_SUF: Array, scale_T: Array, beta_T: Array) -> Array:
        """Each block's exponential effective SINR (T,) over the groups that it holds.

        `eesm` with a number of groups of its own for every block; `scale_T` multiplies the SINRs first.
        """
        slot, group = np.nonzero(self.held_SF != NOBODY)
        block = self.held_SF[slot, group]
        order = np.argsort(block, kind="stable")
        slot, group, block = slot[order], group[order], block[order]
        level = sinr_SUF[slot, self.user_T[block], group] * scale_T[block]
        begin = np.searchsorted(block, np.arange(self.count))
        least_T = np.minimum.reduceat(level, begin)
        spread = np.exp((least_T[block] - level) / beta_T[block])
        mean_T = np.add.reduceat(spread, begin) / self.groups_T
        return ratio_to_db(np.maximum(least_T - beta_T * np.log(mean_T), _FAINTEST))
