"""Schedulers (round robin, proportional fair, maximum rate), and the TDD slot pattern.

Axes: `...` any leading axes; U users; F resource-block groups; N numbers of groups, from 1 on, as many as F.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, above, at_least
from channel.core.errors import BadParameter

IntArray = NDArray[np.int64]

_MIN_BPS = 1e-3
"""The floor of a mean rate, so that a user who never sent has the highest priority."""


class Scheduler(Protocol):
    """Allocates every group of a slot to one user."""

    def choose(
        self, rate_FU: Array, mean_U: Array, turn: int | IntArray, worth_NU: Array | None = None
    ) -> IntArray:
        """The user (..., F) of each group; arbitrary where `rate_FU` is 0 for all users.

        `rate_FU` (..., F, U) is the rate of a user in a group, 0 without data or a feasible scheme; `mean_U`
        (..., U) its mean rate so far; `turn` (or (..., 1)) the number of groups allocated so far. `worth_NU`
        (N, U), for one slot of one direction, is the value of a user's n-th group relative to its first:
        below 1 if its power is spread over several groups, 0 if spread too thinly; None means 1 throughout.
        With `worth_NU`, a group without value to any user may be -1.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class RoundRobin:
    """Users in turn, independent of channel quality, among those with data and a feasible scheme."""

    def choose(
        self, rate_FU: Array, mean_U: Array, turn: int | IntArray, worth_NU: Array | None = None
    ) -> IntArray:
        can_send = rate_FU.max(axis=-2) > 0.0
        count = can_send.sum(axis=-1, keepdims=True)
        # Users who can send come first, in order; the others are never reached.
        order = np.argsort(~can_send, axis=-1, kind="stable")
        if worth_NU is not None and (worth_NU <= 0.0).any():
            users = order[: int(count[0])].tolist()
            return _allocated_in_turn(rate_FU, users, int(np.reshape(turn, ())), worth_NU)
        place = (turn + np.arange(rate_FU.shape[-2])) % np.maximum(count, 1)
        return np.take_along_axis(order, place, axis=-1)


@dataclass(frozen=True, kw_only=True)
class ProportionalFair:
    """The user with the largest rate over its own mean, per group.

    Viswanath, Tse & Laroia, IEEE Trans. Inf. Theory 48(6), 2002. Under a power limit the metric is the
    rate that a group adds to the user's other groups.
    """

    def choose(
        self, rate_FU: Array, mean_U: Array, turn: int | IntArray, worth_NU: Array | None = None
    ) -> IntArray:
        return _best(rate_FU * (1.0 / np.maximum(mean_U, _MIN_BPS))[..., None, :], worth_NU)


@dataclass(frozen=True, kw_only=True)
class MaximumRate:
    """The user with the largest rate: maximum cell throughput without fairness."""

    def choose(
        self, rate_FU: Array, mean_U: Array, turn: int | IntArray, worth_NU: Array | None = None
    ) -> IntArray:
        return _best(rate_FU, worth_NU)


def _best(value_FU: Array, worth_NU: Array | None) -> IntArray:
    """The user (..., F) of highest value for each group, given the groups it already has."""
    if worth_NU is not None:
        return _allocated_greedily(value_FU, worth_NU)
    return np.asarray(value_FU.argmax(axis=-1))


def _allocated_greedily(value_FU: Array, worth_NU: Array) -> IntArray:
    """Greedy allocation, highest value first: optimal if `worth_NU` decreases in N."""
    groups, users = value_FU.shape
    winner_F, count_U = [-1] * groups, [0] * users
    now_FU = value_FU * worth_NU[0]
    best_F = now_FU.argmax(axis=1).tolist()
    most_F = now_FU[np.arange(groups), best_F].tolist()
    for _ in range(groups):
        most = max(most_F)
        if most <= 0.0:
            break
        group = most_F.index(most)
        user = winner_F[group] = best_F[group]
        most_F[group] = 0.0
        count = count_U[user] = count_U[user] + 1
        before, after = worth_NU[count - 1 : count + 1, user].tolist() if count < groups else (0.0, 0.0)
        if before == after:
            continue
        now_FU[:, user] = value_FU[:, user] * after
        for row, winner in enumerate(winner_F):
            if winner < 0 and (best_F[row] == user or after > before):
                best_F[row] = int(now_FU[row].argmax())
                most_F[row] = float(now_FU[row, best_F[row]])
    return np.asarray(winner_F)


def _allocated_in_turn(rate_FU: Array, users: list[int], turn: int, worth_NU: Array) -> IntArray:
    """Allocates each group to the next user in turn for whom it has a value above 0."""
    winner_F, count = np.full(len(rate_FU), -1), dict.fromkeys(users, 0)
    most_F = rate_FU.max(axis=-1)
    for group, most in enumerate(most_F.tolist()):
        for step in range(len(users) if most > 0.0 else 0):
            user = users[(turn + step) % len(users)]
            if worth_NU[count[user], user] > 0.0:
                winner_F[group], turn = user, turn + step
                count[user] += 1
                break
        turn += 1
    return winner_F


SCHEDULERS: dict[str, Scheduler] = {
    "round-robin": RoundRobin(),
    "proportional-fair": ProportionalFair(),
    "maximum-rate": MaximumRate(),
}


def scheduler_named(name: str) -> Scheduler:
    """A row of SCHEDULERS. Raises BadParameter, with the known names, for an unknown one."""
    if name not in SCHEDULERS:
        raise BadParameter(f"scheduler must be one of {', '.join(SCHEDULERS)}, got {name!r}")
    return SCHEDULERS[name]


def averaged(mean_U: Array, had_U: Array, *, step_s: float, window_s: float) -> Array:
    """The exponential moving average (U,) with time constant `window_s` after a step with rate `had_U`."""
    keep = math.exp(-float(above("step_s", step_s, 0.0)) / float(above("window_s", window_s, 0.0)))
    return keep * mean_U + (1.0 - keep) * had_U


@dataclass(frozen=True, kw_only=True)
class Duplex:
    """FDD, or the slot pattern of TDD.

    A `pattern` of "" is FDD: both directions in every slot, on separate carriers. Otherwise it is TDD: one
    letter D or U per slot, repeated. In the uplink, `grant_delay_s` passes from the scheduling request to
    the first grant. Raises BadParameter for other letters, or a pattern without D or without U.
    """

    pattern: str = ""
    grant_delay_s: float = 0.0

    def __post_init__(self) -> None:
        at_least("grant_delay_s", self.grant_delay_s, 0.0)
        if self.pattern and set(self.pattern) != {"D", "U"}:
            raise BadParameter(f"pattern must be empty (FDD), or hold both D and U, got {self.pattern!r}")

    @property
    def period(self) -> int:
        """The period of the pattern in slots."""
        return max(len(self.pattern), 1)

    def is_open(self, direction: str, slot_S: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether `direction` ("up" or "down") may transmit in these slots (S,)."""
        if not self.pattern:
            return np.ones(slot_S.shape, dtype=np.bool_)
        letters = np.frombuffer(self.pattern.encode(), dtype="S1")
        opened: NDArray[np.bool_] = letters[slot_S % self.period] == direction[0].upper().encode()
        return opened

    def share(self, direction: str) -> float:
        """The share of slots of this direction."""
        return float(self.is_open(direction, np.arange(self.period)).mean())
