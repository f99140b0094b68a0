"""Who gets the slot: round robin, proportional fair, maximum rate, and which way a slot points.

Axes: `...` any leading axes; U users; F resource-block groups; N numbers of groups, from 1 on, as many as F.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, above, at_least
from channel.core.errors import BadParameter

Whole = NDArray[np.int64]

_LEAST_BPS = 1e-3
"""A mean of nothing at all is taken for this, so that a user who never sent comes first."""


class Scheduler(Protocol):
    """Hands every group of a slot to one user."""

    def choose(
        self, rate_FU: Array, mean_U: Array, turn: int | Whole, worth_NU: Array | None = None
    ) -> Whole:
        """The user (..., F) of each group; anyone where `rate_FU` is 0 for all: such a group is for nobody.

        `rate_FU` (..., F, U) is what a user would get out of a group, 0 where it has nothing to send or no
        scheme carries; `mean_U` (..., U) what it has had, averaged; `turn` (or (..., 1)) how many groups were
        handed out. `worth_NU` (..., N, U) says what a user's n-th group adds, over what its first one does:
        less than 1 where one power is spread over several, and 0 where it is spread too thin; None for 1
        throughout. A group that is worth nothing to anybody is -1.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class RoundRobin:
    """Users in turn, whatever their channel, as long as they have something to send that gets through."""

    def choose(
        self, rate_FU: Array, mean_U: Array, turn: int | Whole, worth_NU: Array | None = None
    ) -> Whole:
        """See `Scheduler`."""
        can_send = rate_FU.max(axis=-2) > 0.0
        count = can_send.sum(axis=-1, keepdims=True)
        # Those who can send, in their order, come first in this list; the others are never reached.
        order = np.argsort(~can_send, axis=-1, kind="stable")
        place = (turn + np.arange(rate_FU.shape[-2])) % np.maximum(count, 1)
        winner = np.take_along_axis(order, place, axis=-1)
        if worth_NU is not None:
            turns = np.broadcast_to(np.reshape(turn, (*np.shape(turn)[:-1],)), rate_FU.shape[:-2])
            for at in _where_scarce(worth_NU <= 0.0):
                users = order[at][: int(count[at][0])].tolist()
                winner[at] = _in_turn(rate_FU[at], users, int(turns[at]), worth_NU[at])
        return winner


@dataclass(frozen=True, kw_only=True)
class ProportionalFair:
    """The user whose rate is largest against its own mean (Viswanath, Tse & Laroia, IEEE Trans. Inf. Theory
    48(6), 2002); every group by itself, and where power is spread, what a group adds to those one has."""

    def choose(
        self, rate_FU: Array, mean_U: Array, turn: int | Whole, worth_NU: Array | None = None
    ) -> Whole:
        """See `Scheduler`."""
        return _best(rate_FU * (1.0 / np.maximum(mean_U, _LEAST_BPS))[..., None, :], worth_NU)


@dataclass(frozen=True, kw_only=True)
class MaximumRate:
    """The user with the largest rate: most bits in all, and none for those far away."""

    def choose(
        self, rate_FU: Array, mean_U: Array, turn: int | Whole, worth_NU: Array | None = None
    ) -> Whole:
        """See `Scheduler`."""
        return _best(rate_FU, worth_NU)


def _best(value_FU: Array, worth_NU: Array | None) -> Whole:
    """Each group for whom it is worth most, counting what they have already."""
    winner: Whole = np.asarray(value_FU.argmax(axis=-1))
    if worth_NU is not None:
        for at in _where_scarce(worth_NU < 1.0):
            winner[at] = _dealt(value_FU[at], worth_NU[at])
    return winner


def _where_scarce(is_scarce_NU: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    return [tuple(at) for at in np.argwhere(is_scarce_NU.any(axis=(-2, -1))).tolist()]


def _dealt(value_FU: Array, worth_NU: Array) -> Whole:
    """One group after the other, the one that is worth most first: optimal where worth falls with number."""
    groups, users = value_FU.shape
    winner_F, count_U = np.full(groups, -1), [0] * users
    open_FU, now_FU = value_FU.copy(), value_FU * worth_NU[0]
    for _ in range(groups):
        group, user = divmod(int(now_FU.argmax()), users)
        if now_FU[group, user] <= 0.0:
            break
        winner_F[group] = user
        open_FU[group] = now_FU[group] = 0.0
        count_U[user] += 1
        if count_U[user] < groups:
            now_FU[:, user] = open_FU[:, user] * worth_NU[count_U[user], user]
    return winner_F


def _in_turn(rate_FU: Array, users: list[int], turn: int, worth_NU: Array) -> Whole:
    """Group by group to the next in turn to whom one more is worth anything."""
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
    """A row of SCHEDULERS. Raises BadParameter, with the names there are, for any other."""
    if name not in SCHEDULERS:
        raise BadParameter(f"scheduler must be one of {', '.join(SCHEDULERS)}, got {name!r}")
    return SCHEDULERS[name]


def averaged(mean_U: Array, had_U: Array, *, step_s: float, window_s: float) -> Array:
    """The mean after a step in which users had `had_U` (bits a second): exponential, `window_s` long."""
    keep = math.exp(-float(above("step_s", step_s, 0.0)) / float(above("window_s", window_s, 0.0)))
    return keep * mean_U + (1.0 - keep) * had_U


@dataclass(frozen=True, kw_only=True)
class Duplex:
    """Which slots each direction may use.

    `pattern` of "" is FDD: both directions in every slot, each on a carrier of its own. Otherwise TDD:
    letters D and U, one a slot, repeated. An uplink user waits `grant_delay_s` from its request to its first
    grant.
    Raises BadParameter for another letter, or a pattern that leaves one direction without a slot.
    """

    pattern: str = ""
    grant_delay_s: float = 0.0

    def __post_init__(self) -> None:
        at_least("grant_delay_s", self.grant_delay_s, 0.0)
        if self.pattern and set(self.pattern) != {"D", "U"}:
            raise BadParameter(f"pattern must be empty (FDD), or hold both D and U, got {self.pattern!r}")

    @property
    def period(self) -> int:
        """After how many slots it repeats."""
        return max(len(self.pattern), 1)

    def is_open(self, direction: str, slot_S: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether `direction` ("up" or "down") may be sent in these slots."""
        if not self.pattern:
            return np.ones(slot_S.shape, dtype=np.bool_)
        letters = np.frombuffer(self.pattern.encode(), dtype="S1")
        opened: NDArray[np.bool_] = letters[slot_S % self.period] == direction[0].upper().encode()
        return opened

    def share(self, direction: str) -> float:
        """The share of slots in which this direction may be sent."""
        return float(self.is_open(direction, np.arange(self.period)).mean())
