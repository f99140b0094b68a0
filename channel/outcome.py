"""What a cell has done for its users in one direction, in all and over time.

Axes: U users; B bins of time.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.values import Array, above

_SUMS = (
    *("sent_bits", "delivered_bits", "lost_bits", "firsts", "first_failures"),
    *("tries", "airtime_s", "radiated_j", "finish_s"),
)
_TRACES = ("delivered_BU", "tries_BU", "failures_BU", "sinr_db_BU", "scheme_BU", "error_rate_BU")


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """Sums per user (U,) of one direction, filled while the cell runs; bits are payload, padding left out.

    Every bit sent ends up in one place: `sent_bits` = `delivered_bits` + `lost_bits` + `flying_bits`.
    `tries` counts blocks sent, first ones in `firsts`, `first_failures` of which failed; `airtime_s` is a
    slot for each try. `finish_s` is when the last bit of a finite transfer was decided, nan if it was not.
    `*_BU` are the trace, in bins of `bin_s`: bits delivered, tries, tries that failed, and sums over tries of
    the effective SINR in decibels, of the scheme, and of the predicted error rate.
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
    finish_s: Array
    delivered_BU: Array
    tries_BU: Array
    failures_BU: Array
    sinr_db_BU: Array
    scheme_BU: Array
    error_rate_BU: Array

    @classmethod
    def empty(cls, users: int, *, duration_s: float, bin_s: float) -> Self:
        """Nothing done yet. Raises BadParameter unless both times are above 0."""
        bins = math.ceil(float(above("duration_s", duration_s, 0.0) / above("bin_s", bin_s, 0.0)) - 1e-9)
        sums = {name: np.zeros(users) for name in _SUMS}
        sums["finish_s"][:] = np.nan
        traces = {name: np.zeros((bins, users)) for name in _TRACES}
        return cls(bin_s=bin_s, duration_s=duration_s, **sums, **traces)

    @property
    def flying_bits(self) -> Array:
        """Bits of blocks that were waiting for another try when time was up."""
        return self.sent_bits - self.delivered_bits - self.lost_bits

    @property
    def retransmissions(self) -> Array:
        """Tries beyond each block's first."""
        return self.tries - self.firsts

    @property
    def throughput_bps(self) -> Array:
        """Delivered bits over the whole time."""
        return self.delivered_bits / self.duration_s

    @property
    def error_rate(self) -> Array:
        """The share of first tries that failed; nan for who never sent."""
        return _share(self.first_failures, self.firsts)

    @property
    def loss_rate(self) -> Array:
        """The share of decided bits that no try brought through; nan where none were decided."""
        return _share(self.lost_bits, self.lost_bits + self.delivered_bits)

    @property
    def bin_end_s(self) -> Array:
        """When each bin of the trace ends."""
        ends: Array = (np.arange(self.tries_BU.shape[0], dtype=np.float64) + 1.0) * self.bin_s
        return ends

    def trace(self) -> dict[str, Array]:
        """Throughput, and means over the tries of each bin (nan where there were none), all (B, U)."""
        return {
            "time_s": self.bin_end_s,
            "throughput_bps": self.delivered_BU / self.bin_s,
            "sinr_db": _share(self.sinr_db_BU, self.tries_BU),
            "scheme": _share(self.scheme_BU, self.tries_BU),
            "error_rate": _share(self.error_rate_BU, self.tries_BU),
            "failed": _share(self.failures_BU, self.tries_BU),
        }


def _share(part: Array, whole: Array) -> Array:
    known: NDArray[np.bool_] = whole > 0.0
    share: Array = np.divide(part, whole, out=np.full(part.shape, np.nan), where=known)
    return share
