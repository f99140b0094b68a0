"""Link adaptation: the fastest scheme for the reported SNR, corrected by an outer loop.

Positions in a scheme table are counted from 0; -1 means that no scheme is feasible.
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
"""The maximum block error rate that a CQI stands for (3GPP TS 38.214 clause 5.2.2.1)."""


def fastest_scheme(threshold_db_I: Array, snr_db: Real) -> NDArray[np.int64]:
    """The last position whose threshold is at most `snr_db`, or -1, in the shape of `snr_db`.

    Thresholds need not increase monotonically.
    """
    reachable = np.minimum.accumulate(threshold_db_I[::-1])[::-1]
    return np.asarray(np.searchsorted(reachable, snr_db, side="right") - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class SchemeLookup:
    """Maps SINRs (power ratios) to the fastest feasible scheme, and to its spectral efficiency.

    The efficiency uses a lookup table indexed by the upper bits of a double, 256 steps per octave: a
    threshold applies from the start of its step, at most 0.017 dB early.
    """

    threshold_I: Array
    first_step: int
    efficiency_at_step: Array

    @classmethod
    def of(cls, threshold_db_I: Array, efficiency_I: Array) -> Self:
        """From thresholds in decibels, which need not increase monotonically, and efficiencies (I,)."""
        threshold_I = db_to_ratio(np.minimum.accumulate(threshold_db_I[::-1])[::-1])
        begin = _steps(threshold_I)
        # One step before the first threshold, and the step of the last, represent all values beyond them.
        steps = np.arange(int(begin[0]) - 1, int(begin[-1]) + 1)
        count = np.searchsorted(begin, steps, side="right")
        return cls(
            threshold_I=threshold_I,
            first_step=int(steps[0]),
            efficiency_at_step=np.append(0.0, efficiency_I)[count],
        )

    def scheme(self, ratio: Array) -> NDArray[np.int64]:
        """The position of the fastest scheme for each SINR, 0 where none is feasible."""
        return self.threshold_I[1:].searchsorted(ratio, side="right")

    def efficiency(self, ratio: Array) -> Array:
        """Bits per symbol for each SINR (at least 0, any shape), 0 where no scheme is feasible."""
        step = _steps(ratio)
        step -= self.first_step
        return self.efficiency_at_step.take(step, mode="clip")


def _steps(ratio: Array) -> NDArray[np.int64]:
    return ratio.view(np.int64) >> 44


@dataclass(frozen=True, kw_only=True, eq=False)
class Reporter:
    """Channel quality indicators (CQI), and the MCS selected for each.

    `cqi_threshold_db_I` are the SNRs at which the CQI table's schemes have a BLER of 0.1;
    `scheme_of_cqi` holds, from CQI 0, the position of the fastest MCS that does not exceed its efficiency.
    """

    cqi_threshold_db_I: Array
    scheme_of_cqi: NDArray[np.int64]

    @classmethod
    def of(
        cls, cqi: SchemeTable, mcs: SchemeTable, *, bits: float = 1000.0, implementation_loss_db: float = 0.0
    ) -> Self:
        """A reporter for code blocks of `bits` bits; errors as in `BlockErrorLaw`."""
        law = BlockErrorLaw.of(cqi, implementation_loss_db=implementation_loss_db)
        # Both tables use the same fractions, so equal efficiencies compare equal.
        slower = np.searchsorted(np.maximum.accumulate(mcs.efficiency_I), cqi.efficiency_I, side="right") - 1
        return cls(
            cqi_threshold_db_I=law.threshold_db(target=TARGET, bits=bits),
            scheme_of_cqi=np.concatenate([[-1], np.maximum(slower, 0)]),
        )

    def cqi(self, snr_db: Real) -> NDArray[np.int64]:
        """The CQI of effective SNRs in decibels: 0 (out of range) to 15."""
        return fastest_scheme(self.cqi_threshold_db_I, snr_db) + 1

    def scheme(self, cqi: NDArray[np.int64]) -> NDArray[np.int64]:
        """The MCS position for each CQI, -1 for CQI 0."""
        return self.scheme_of_cqi[cqi]


@dataclass(frozen=True, kw_only=True)
class OuterLoop:
    """Outer-loop link adaptation (OLLA): a margin in decibels subtracted from the reported SNR.

    After each first transmission: margin -= step on ACK, margin += step (1 - target) / target on NACK. The
    margin is stationary only at an error rate of `target`, whatever the bias of the reports (Sampath, Kumar
    & Holtzman, VTC 1997; Pedersen et al., VTC Fall 2007, pages 1792-1796). It is clipped to +-`max_db`,
    since a user out of coverage always fails. Raises BadParameter for a step or limit that is not above 0
    and a target outside [0.001, 0.999].
    """

    target: float = TARGET
    step_db: float = 0.05
    max_db: float = 20.0

    def __post_init__(self) -> None:
        within("target", self.target, 1e-3, 1.0 - 1e-3)
        above("step_db", self.step_db, 0.0)
        above("max_db", self.max_db, 0.0)

    def updated_db(self, margin_db: Array, is_acknowledged: NDArray[np.bool_]) -> Array:
        """The margins after these outcomes, elementwise."""
        rise_db = self.step_db * (1.0 - self.target) / self.target
        moved = margin_db + np.where(is_acknowledged, -self.step_db, rise_db)
        return np.clip(moved, -self.max_db, self.max_db)
