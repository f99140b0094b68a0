"""Trying again: no retransmission, plain ARQ, and hybrid ARQ with chase combining or incremental redundancy.

Axis: M tries of one transport block, in order, last.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Real, at_least, whole, within
from channel.core.errors import BadParameter
from channel.core.units import db_to_ratio, ratio_to_db
from channel.phy.capacity import bit_information, snr_db_of_information

COMBINING = ("none", "arq", "chase", "incremental")
"""One try; tries that forget each other; tries whose SNRs add; tries whose mutual informations add."""


@dataclass(frozen=True, kw_only=True)
class Harq:
    """A way of retransmitting a block: at most `max_tries` times, `round_trip_s` apart.

    The round trip is the wait from the end of one try to the beginning of the next: 8 ms in LTE FDD
    (3GPP TS 36.213 clause 8), while 5G NR leaves it to the cell. Raises BadParameter for an unknown
    combining, fewer than one try, more than one try with none, or a negative round trip.
    """

    combining: str
    max_tries: int = 4
    round_trip_s: float = 0.008

    def __post_init__(self) -> None:
        if self.combining not in COMBINING:
            raise BadParameter(f"combining must be one of {', '.join(COMBINING)}, got {self.combining!r}")
        whole("max_tries", self.max_tries, 1)
        at_least("round_trip_s", self.round_trip_s, 0.0)
        if self.combining == "none" and self.max_tries != 1:
            raise BadParameter(f"max_tries must be 1 where combining is none, got {self.max_tries}")

    def combined_db(self, snr_db_M: Array, modulation_order: NDArray[np.int64] | int) -> Array:
        """The SNR in decibels (..., M) that the decoder has after each try, from what each had alone.

        `modulation_order` (...) matters to incremental redundancy only: the information of all tries, per
        coded bit of the first, is that of one try at the combined SNR (Cheng, IEEE
        Trans. Commun. 54(6), 2006). That takes every
        retransmitted bit as new, which is generous once they repeat, below the mother code's rate of 1/3 or
        1/5; chase combining is then the truth.
        """
        if self.combining == "chase":
            total: Array = np.cumsum(db_to_ratio(snr_db_M), axis=-1)
            return ratio_to_db(total)
        if self.combining == "incremental":
            return _added_information_db(snr_db_M, np.asarray(modulation_order))
        return snr_db_M

    def tries(self, error_rate_M: Array, uniform_M: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """How often each block was sent (...), and whether it came through, from the error rates (..., M).

        `error_rate_M` belongs to the combined SNR after each try; `uniform_M` (..., M) lies in [0, 1).
        Tries that forget each other use a number each. Tries that combine use the first for all of them: a
        block has one margin, so that P(still undecoded after m) is the error rate at the m-th combined SNR,
        and not the product of them all, which would count the same luck twice.
        Raises BadParameter where M is not max_tries.
        """
        if error_rate_M.shape[-1] != self.max_tries:
            raise BadParameter(
                f"error_rate_M must end in {self.max_tries} tries, got {error_rate_M.shape[-1]}"
            )
        luck = uniform_M if self.combining == "arq" else uniform_M[..., :1]
        is_decoded = luck >= error_rate_M
        came_through = np.asarray(is_decoded.any(axis=-1))
        first = np.where(came_through, is_decoded.argmax(axis=-1) + 1, self.max_tries)
        return first, came_through

    def wait_s(self, tries: NDArray[np.int64] | int) -> Array:
        """The time spent waiting between tries: (tries - 1) round_trip_s."""
        waited: Array = (np.asarray(tries) - 1) * self.round_trip_s
        return waited


def arq_residual(error_rate: Real, max_tries: int) -> Array:
    """P(every try fails) = p^M (Lin & Costello, Error Control Coding, 2nd ed., chapter 22)."""
    rate: Array = within("error_rate", error_rate, 0.0, 1.0) ** whole("max_tries", max_tries, 1)
    return rate


def arq_mean_tries(error_rate: Real, max_tries: int) -> Array:
    """(1 - p^M) / (1 - p), as the sum 1 + p + ... + p^(M-1), which also holds for p = 1."""
    rate = within("error_rate", error_rate, 0.0, 1.0)
    mean: Array = (rate[..., None] ** np.arange(whole("max_tries", max_tries, 1))).sum(axis=-1)
    return mean


def _added_information_db(snr_db_M: Array, modulation_order: NDArray[np.int64]) -> Array:
    orders = np.broadcast_to(modulation_order, snr_db_M.shape[:-1])
    combined = np.array(snr_db_M, dtype=np.float64)
    for order in np.unique(orders):
        rows = orders == order
        information = np.cumsum(bit_information(int(order), snr_db_M[rows]), axis=-1)
        # Never below the best try alone, where the table has rounded that to a certain bit.
        best = np.maximum.accumulate(snr_db_M[rows], axis=-1)
        combined[rows] = np.maximum(snr_db_of_information(int(order), information), best)
    combined[..., 0] = snr_db_M[..., 0]
    return combined
