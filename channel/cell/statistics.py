"""Statistics of a cell per direction and user, in total and over time.

Axes: U users; B bins of time; T blocks; Q queues, direction x U + user.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.cell.blocks import Transmissions
from channel.core.arrays import Array, above
from channel.core.link import DIRECTIONS

_SUMS = (
    *("sent_bits", "delivered_bits", "lost_bits", "firsts", "first_failures"),
    *("tries", "airtime_s", "radiated_j", "last_end_s", "finish_s"),
)
_BATCH = 4096
"""Transmissions counted together, to amortise the overhead of numpy."""

_TRACES = ("delivered_BU", "tries_BU", "failures_BU", "sinr_db_BU", "scheme_BU", "error_rate_BU")


@dataclass(frozen=True, kw_only=True, eq=False)
class DirectionStatistics:
    """Sums per user (U,) in one direction, updated while the cell runs; bits are payload without padding.

    `sent_bits` = `delivered_bits` + `lost_bits` + `in_flight_bits`. `tries` counts transmissions of blocks,
    `firsts` the first ones, `first_failures` the failed first ones; `airtime_s` is one slot per transmission,
    the last of which ended at `last_end_s`. `finish_s` is the time at which the last bit of a finite
    transfer was decided, nan if it was not.
    `*_BU` are traces in bins of `bin_s`: delivered bits, transmissions, failed ones, and sums over
    transmissions of the effective SINR in decibels, the scheme, and the predicted error rate.
    """

    bin_s: float
    duration_s: float
    sent_bits: Array
    delivered_bits: Array
    lost_bits: Array
    firsts: Array
    first_failures: Array
    tries: Array
    airtime_s: Array
    radiated_j: Array
    last_end_s: Array
    finish_s: Array
    delivered_BU: Array
    tries_BU: Array
    failures_BU: Array
    sinr_db_BU: Array
    scheme_BU: Array
    error_rate_BU: Array

    @classmethod
    def empty(cls, users: int, *, duration_s: float, bin_s: float) -> Self:
        """All sums 0. Raises BadParameter unless both times are above 0."""
        bins = math.ceil(float(above("duration_s", duration_s, 0.0) / above("bin_s", bin_s, 0.0)) - 1e-9)
        sums = {name: np.zeros(users) for name in _SUMS}
        sums["finish_s"][:] = np.nan
        traces = {name: np.zeros((bins, users)) for name in _TRACES}
        return cls(bin_s=bin_s, duration_s=duration_s, **sums, **traces)

    @property
    def in_flight_bits(self) -> Array:
        """Bits of blocks that were still in flight at the end."""
        return self.sent_bits - self.delivered_bits - self.lost_bits

    @property
    def retransmissions(self) -> Array:
        """Transmissions beyond each block's first."""
        return self.tries - self.firsts

    @property
    def throughput_bps(self) -> Array:
        """Delivered bits over the duration."""
        return self.delivered_bits / self.duration_s

    @property
    def error_rate(self) -> Array:
        """The share of failed first transmissions; nan for users who never sent."""
        return _share(self.first_failures, self.firsts)

    @property
    def loss_rate(self) -> Array:
        """The share of lost bits among decided ones; nan without any."""
        return _share(self.lost_bits, self.lost_bits + self.delivered_bits)

    @property
    def bin_end_s(self) -> Array:
        """The end time (B,) of each bin."""
        ends: Array = (np.arange(self.tries_BU.shape[0], dtype=np.float64) + 1.0) * self.bin_s
        return ends

    def trace(self) -> dict[str, Array]:
        """`time_s` (B,), and throughput and means over each bin's transmissions (nan without any), (B, U)."""
        return {
            "time_s": self.bin_end_s,
            "throughput_bps": self.delivered_BU / self.bin_s,
            "sinr_db": _share(self.sinr_db_BU, self.tries_BU),
            "scheme": _share(self.scheme_BU, self.tries_BU),
            "error_rate": _share(self.error_rate_BU, self.tries_BU),
            "failed": _share(self.failures_BU, self.tries_BU),
        }


class StatisticsAccumulator:
    """Accumulates transmissions into the statistics of both directions, in batches."""

    def __init__(self, outcomes: dict[str, DirectionStatistics], slot_s: float) -> None:
        self.outcomes = outcomes
        self._slot_s, self._waiting, self._size = slot_s, list[Transmissions](), 0

    def add(self, tries: Transmissions) -> None:
        """Adds transmissions; `outcomes` is up to date after `flush`."""
        self._waiting.append(tries)
        self._size += tries.blocks.count
        if self._size >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Counts all added transmissions."""
        if not self._waiting:
            return
        tries = Transmissions.joined(self._waiting)
        self._waiting, self._size = [], 0
        users = self.outcomes["up"].tries.size
        for number, direction in enumerate(DIRECTIONS):
            here = tries.blocks.queue_T // users == number
            self._count(self.outcomes[direction], tries.at(here), number * users)

    def _count(self, out: DirectionStatistics, tries: Transmissions, first: int) -> None:
        blocks, user_T = tries.blocks, tries.blocks.queue_T - first
        is_first, failed = blocks.tries_T == 0, ~tries.decoded_T
        sums = (
            (out.sent_bits, blocks.payload_T * is_first),
            (out.delivered_bits, blocks.payload_T * tries.decoded_T),
            (out.lost_bits, blocks.payload_T * tries.is_lost_T),
            (out.firsts, is_first),
            (out.first_failures, is_first & failed),
            (out.tries, np.ones(user_T.size)),
            (out.airtime_s, np.full(user_T.size, self._slot_s)),
            (out.radiated_j, tries.radiated_j_T),
        )
        for total, part in sums:
            total += np.bincount(user_T, weights=part, minlength=total.size)
        at_bin = (blocks.slot_T * self._slot_s / out.bin_s + 1e-9).astype(np.int64)
        cell = np.minimum(at_bin, len(out.tries_BU) - 1) * out.tries.size + user_T
        traces = (
            (out.delivered_BU, blocks.payload_T * tries.decoded_T),
            (out.tries_BU, np.ones(user_T.size)),
            (out.failures_BU, failed.astype(np.float64)),
            (out.sinr_db_BU, tries.effective_db_T),
            (out.scheme_BU, blocks.scheme_T.astype(np.float64)),
            (out.error_rate_BU, tries.error_rate_T),
        )
        for trace, part in traces:
            np.add.at(trace.reshape(-1), cell, part)
        np.maximum.at(out.last_end_s, user_T, (blocks.slot_T + 1) * self._slot_s)


def _share(part: Array, whole: Array) -> Array:
    known: NDArray[np.bool_] = whole > 0.0
    share: Array = np.divide(part, whole, out=np.full(part.shape, np.nan), where=known)
    return share
