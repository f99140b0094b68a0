"""Retransmission: none, plain ARQ, and hybrid ARQ with chase combining or incremental redundancy.

Axis: M transmissions of one transport block, in order; the last axis.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Real, at_least, whole, within
from channel.core.errors import BadParameter
from channel.core.units import db_to_ratio, ratio_to_db
from channel.phy.capacity import bit_information, snr_db_of_information

COMBINING = ("none", "arq", "chase", "incremental")
"""One transmission; independent ones; ones whose SNRs add; ones whose mutual informations add."""


@dataclass(frozen=True, kw_only=True)
class Harq:
    """A HARQ configuration: at most `max_tries` transmissions of a block, `round_trip_s` apart.

    The round trip is the time from the end of one transmission to the start of the next: 8 ms in LTE FDD
    (3GPP TS 36.213 clause 8), configurable in 5G NR. Raises BadParameter for an unknown combining, fewer
    than one transmission, more than one with "none", or a negative round trip.
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
        """The combined SNR in decibels (..., M) after each transmission, from the SNR of each alone.

        `modulation_order` (...) is used by incremental redundancy only: the accumulated mutual information
        per coded bit of the first transmission equals that of one transmission at the combined SNR (Cheng,
        IEEE Trans. Commun. 54(6), 2006). Every retransmitted bit counts as new, which is optimistic once
        bits repeat, below the mother code's rate of 1/3 or 1/5; chase combining is exact there.
        """
        if self.combining == "chase":
            total: Array = np.cumsum(db_to_ratio(snr_db_M), axis=-1)
            return ratio_to_db(total)
        if self.combining == "incremental":
            return _added_information_db(snr_db_M, np.asarray(modulation_order))
        return snr_db_M

    def tries(self, error_rate_M: Array, uniform_M: Array) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The number of transmissions of each block (...), and whether it was decoded.

        `error_rate_M` (..., M) is the error rate at the combined SNR after each transmission; `uniform_M`
        (..., M) holds draws in [0, 1). Independent transmissions use one draw each. Combined transmissions
        share the first draw, so that P(undecoded after m) is the error rate at the m-th combined SNR
        instead of the product of all, which would count the same noise twice.
        Raises BadParameter if M is not `max_tries`.
        """
        if error_rate_M.shape[-1] != self.max_tries:
            raise BadParameter(
                f"error_rate_M must have a last axis of {self.max_tries} tries, got {error_rate_M.shape[-1]}"
            )
        uniform = uniform_M if self.combining == "arq" else uniform_M[..., :1]
        is_decoded = uniform >= error_rate_M
        is_decoded_at_all = np.asarray(is_decoded.any(axis=-1))
        first = np.where(is_decoded_at_all, is_decoded.argmax(axis=-1) + 1, self.max_tries)
        return first, is_decoded_at_all

    def wait_s(self, tries: NDArray[np.int64] | int) -> Array:
        """The waiting time between transmissions: (tries - 1) round_trip_s."""
        waited: Array = (np.asarray(tries) - 1) * self.round_trip_s
        return waited


def arq_residual(error_rate: Real, max_tries: int) -> Array:
    """P(all M transmissions fail) = p^M (Lin & Costello, Error Control Coding, 2nd ed., chapter 22)."""
    rate: Array = within("error_rate", error_rate, 0.0, 1.0) ** whole("max_tries", max_tries, 1)
    return rate


def arq_mean_tries(error_rate: Real, max_tries: int) -> Array:
    """The mean number of transmissions (1 - p^M) / (1 - p), as 1 + p + ... + p^(M-1), valid at p = 1."""
    rate = within("error_rate", error_rate, 0.0, 1.0)
    mean: Array = (rate[..., None] ** np.arange(whole("max_tries", max_tries, 1))).sum(axis=-1)
    return mean


def _added_information_db(snr_db_M: Array, modulation_order: NDArray[np.int64]) -> Array:
    orders = np.broadcast_to(modulation_order, snr_db_M.shape[:-1])
    combined = np.array(snr_db_M, dtype=np.float64)
    for order in np.unique(orders):
        rows = orders == order
        information = np.cumsum(bit_information(int(order), snr_db_M[rows]), axis=-1)
        # Never below the best single transmission, whose information the table may round to 1.
        best = np.maximum.accumulate(snr_db_M[rows], axis=-1)
        combined[rows] = np.maximum(snr_db_of_information(int(order), information), best)
    combined[..., 0] = snr_db_M[..., 0]
    return combined
