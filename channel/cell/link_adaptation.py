"""Choosing how fast to send: the fastest scheme that the reported SNR carries, corrected by what happens.

Positions in a scheme table are whole numbers from 0; -1 means that not even the slowest one fits.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Real, above, within
from channel.core.units import db_to_ratio
from channel.phy.block_error import BlockErrorLaw
from channel.phy.mcs import SchemeTable

TARGET = 0.1
"""The block error rate that a CQI promises at most (3GPP TS 38.214 clause 5.2.2.1)."""


def fastest_scheme(threshold_db_I: Array, snr_db: Real) -> NDArray[np.int64]:
    """The last position whose threshold is at most `snr_db`, or -1: any shape, the shape of `snr_db`.

    Thresholds need not rise from each scheme to the next.
    """
    reachable = np.minimum.accumulate(threshold_db_I[::-1])[::-1]
    return np.asarray(np.searchsorted(reachable, snr_db, side="right") - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Reach:
    """What power ratios carry: the fastest scheme of a few, and the efficiency of that of very many.

    The latter is looked up, by the upper bits of a double, which count 256 steps to an octave: a threshold
    holds from the beginning of its step on, which is at most 0.017 dB early.
    """

    threshold_I: Array
    first_step: int
    efficiency_at_step: Array

    @classmethod
    def of(cls, threshold_db_I: Array, efficiency_I: Array) -> Self:
        """Of these thresholds in decibels, which need not rise from each scheme to the next."""
        threshold_I = db_to_ratio(np.minimum.accumulate(threshold_db_I[::-1])[::-1])
        begin = _steps(threshold_I)
        # One step before the first threshold and one that holds the last stand for all beyond them.
        steps = np.arange(int(begin[0]) - 1, int(begin[-1]) + 1)
        count = np.searchsorted(begin, steps, side="right")
        return cls(
            threshold_I=threshold_I,
            first_step=int(steps[0]),
            efficiency_at_step=np.append(0.0, efficiency_I)[count],
        )

    def scheme(self, ratio: Array) -> NDArray[np.int64]:
        """The position of the fastest scheme for each ratio, 0 where none is in reach."""
        return self.threshold_I[1:].searchsorted(ratio, side="right")

    def efficiency(self, ratio: Array) -> Array:
        """Bits a symbol that each ratio (0 or more, any shape) carries, 0 where no scheme is in reach."""
        step = _steps(ratio)
        step -= self.first_step
        return self.efficiency_at_step.take(step, mode="clip")

    def worth(self, ratio: Array, most_groups: Array, groups: int) -> Array:
        """What one more group adds to a sender's capacity over what its first one does: (..., groups, U).

        `ratio` (..., U) is the mean SINR of a group that has all the power it may take, and `most_groups`
        says how many have that at once; of more, all share the sender's power. Capacity is log(1 + ratio), no
        higher than where the fastest scheme begins; where sharing leads below the slowest, more add nothing.
        """
        number_N = np.arange(1.0, groups + 1.0)[:, None]
        each = ratio[..., None, :] * np.minimum(1.0, most_groups[..., None, :] / number_N)
        total = number_N * np.log1p(np.minimum(each, self.threshold_I[-1]))
        first = np.maximum(total[..., :1, :], np.finfo(np.float64).tiny)
        added = np.diff(total, axis=-2, prepend=0.0) / first
        is_full = number_N <= most_groups[..., None, :] * (1.0 + 1e-9)
        return np.where(is_full, 1.0, np.where(each < self.threshold_I[0], 0.0, np.maximum(added, 0.0)))


def _steps(ratio: Array) -> NDArray[np.int64]:
    return ratio.view(np.int64) >> 44


@dataclass(frozen=True, kw_only=True, eq=False)
class Reporter:
    """A user's channel quality reports (CQI), and the MCS with which a cell answers them.

    `cqi_threshold_db_I` are the SNRs at which the CQI table's schemes fail with probability 0.1;
    `scheme_of_cqi` holds, for CQI 0 and up, the position of the fastest MCS that is not faster.
    """

    cqi_threshold_db_I: Array
    scheme_of_cqi: NDArray[np.int64]

    @classmethod
    def of(
        cls, cqi: SchemeTable, mcs: SchemeTable, *, bits: float = 1000.0, implementation_loss_db: float = 0.0
    ) -> Self:
        """A reporter that expects code blocks of `bits` bits; errors as in `BlockErrorLaw`."""
        law = BlockErrorLaw.of(cqi, implementation_loss_db=implementation_loss_db)
        # The rates of the two tables are the same fractions, so that equal efficiencies compare equal.
        slower = np.searchsorted(np.maximum.accumulate(mcs.efficiency_I), cqi.efficiency_I, side="right") - 1
        return cls(
            cqi_threshold_db_I=law.threshold_db(target=TARGET, bits=bits),
            scheme_of_cqi=np.concatenate([[-1], np.maximum(slower, 0)]),
        )

    def cqi(self, snr_db: Real) -> NDArray[np.int64]:
        """CQI of these effective SNRs: 0 (out of reach) to 15."""
        return fastest_scheme(self.cqi_threshold_db_I, snr_db) + 1

    def scheme(self, cqi: NDArray[np.int64]) -> NDArray[np.int64]:
        """The MCS position for each CQI, -1 for CQI 0."""
        return self.scheme_of_cqi[cqi]


@dataclass(frozen=True, kw_only=True)
class OuterLoop:
    """Outer-loop link adaptation: a margin in decibels that is taken off the reported SNR before choosing.

    After each first try: margin -= step on success, margin += step (1 - target) / target on failure. Neither
    drifts only if failures have the share `target`, however wrong the reports are (Sampath, Kumar & Holtzman,
    VTC 1997; Pedersen et al., VTC Fall 2007, pages 1792-1796). The margin stays within +-`most_db`, for a
    user out of reach fails for ever. Raises BadParameter for a step or limit that is not above 0 and a target
    outside [0.001, 0.999].
    """

    target: float = TARGET
    step_db: float = 0.05
    most_db: float = 20.0

    def __post_init__(self) -> None:
        within("target", self.target, 1e-3, 1.0 - 1e-3)
        above("step_db", self.step_db, 0.0)
        above("most_db", self.most_db, 0.0)

    def updated_db(self, margin_db: Array, is_acknowledged: NDArray[np.bool_]) -> Array:
        """The margins after these outcomes: one per user, the shapes alike."""
        rise_db = self.step_db * (1.0 - self.target) / self.target
        moved = margin_db + np.where(is_acknowledged, -self.step_db, rise_db)
        return np.clip(moved, -self.most_db, self.most_db)
