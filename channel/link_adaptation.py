"""Choosing how fast to send: the fastest scheme that the reported SNR carries, corrected by what happens.

Positions in a scheme table are whole numbers from 0; -1 means that not even the slowest one fits.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.block_error import BlockErrorLaw
from channel.mcs import SchemeTable
from channel.values import Array, Real, above, within

TARGET = 0.1
"""The block error rate that a CQI promises at most (3GPP TS 38.214 clause 5.2.2.1)."""


def fastest_scheme(threshold_db_I: Array, snr_db: Real) -> NDArray[np.int64]:
    """The last position whose threshold is at most `snr_db`, or -1: any shape, the shape of `snr_db`.

    Thresholds need not rise from each scheme to the next.
    """
    reachable = np.minimum.accumulate(threshold_db_I[::-1])[::-1]
    return np.asarray(np.searchsorted(reachable, snr_db, side="right") - 1)


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
    drifts only if failures have the share `target`, however wrong the reports are (Pedersen et al., VTC
    Spring 2005; Sampath et al., VTC 1997). The margin stays within +-`most_db`, for a user out of reach fails
    for ever. Raises BadParameter for a step or limit that is not above 0 and a target outside [0.001, 0.999].
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
