"""Block error rate as a function of SNR, with two fitted parameters per modulation and code rate.

    BLER = Q(slope sqrt(K / 1000) (snr_db - s50_db)),   TBLER = 1 - (1 - BLER)^blocks

for a code block of K bits. The parameters and their provenance are in bler_law.json beside this file, with
the shift of s50_db for lengths at which the standard uses the other of its two base graphs.
The law is within 0.1 dB of the simulation for K of 250 to 4,000, and extrapolates beyond.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Real, above, at_least, within
from channel.core.errors import BadParameter
from channel.core.special_functions import gaussian_tail, gaussian_tail_inverse
from channel.phy.mcs import SchemeTable

REFERENCE_BITS = 1000.0
DATA_FILE = "bler_law.json"

_FAST_RATE = 0.67
_SHORT_BITS, _LONG_BITS = 308, 3840
"""Code rates above `_FAST_RATE` use another base graph than at 1,000 bits up to `_SHORT_BITS`, lower rates
above `_LONG_BITS`: TS 38.212 clause 7.2.2, whose 292 and 3,824 bits exclude the checksum."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockErrorLaw:
    """The law for the schemes of one table, I of them.

    `s50_db_I` is the SNR per symbol at which half of all blocks fail, `slope_I` the steepness per decibel
    for K = 1000, `beta_I` the constant of the exponential effective SINR. `other_graph_db_I` is added to
    `s50_db_I` for short blocks (if `is_fast_I`) or long blocks (otherwise) that use another base graph.
    `implementation_loss_db` is subtracted from every SNR: 0 is the simulated ideal receiver, 3 resembles
    OpenAirInterface's thresholds.
    """

    s50_db_I: Array
    slope_I: Array
    beta_I: Array
    other_graph_db_I: Array
    is_fast_I: NDArray[np.bool_]
    implementation_loss_db: float = 0.0

    @classmethod
    def of(cls, table: SchemeTable, *, implementation_loss_db: float = 0.0) -> Self:
        """The law of an MCS or CQI table.

        Raises BadParameter for a negative loss, and for a scheme that is not in the data file.
        """
        at_least("implementation_loss_db", implementation_loss_db, 0.0)
        rows = _rows()
        orders, rates = table.modulation_order_I.tolist(), (table.code_rate_I * 1024.0).tolist()
        missing = [key for key in zip(orders, rates, strict=True) if key not in rows]
        if missing:
            raise BadParameter(f"{DATA_FILE} must have every scheme of {table.name}; missing: {missing}")
        found = np.asarray([rows[key] for key in zip(orders, rates, strict=True)])
        return cls(
            s50_db_I=found[:, 0],
            slope_I=found[:, 1],
            beta_I=found[:, 2],
            other_graph_db_I=found[:, 3],
            is_fast_I=table.code_rate_I > _FAST_RATE,
            implementation_loss_db=implementation_loss_db,
        )

    def code_block(self, scheme: NDArray[np.int64] | int, snr_db: Real, bits: Real) -> Array:
        """P(a code block of `bits` bits fails); `scheme` is a position in the table. All broadcast."""
        steepness = self.slope_I[scheme] * np.sqrt(np.asarray(bits) / REFERENCE_BITS)
        return gaussian_tail(
            steepness * (snr_db - self.implementation_loss_db - self._middle_db(scheme, bits))
        )

    def transport_block(
        self, scheme: NDArray[np.int64] | int, snr_db: Real, bits: Real, blocks: Real
    ) -> Array:
        """P(any of `blocks` code blocks of `bits` bits each fails), all at the same SNR."""
        one = self.code_block(scheme, snr_db, bits)
        with np.errstate(divide="ignore"):  # for an error rate of 1 the logarithm is -inf and the result 1
            some: Array = -np.expm1(np.asarray(blocks) * np.log1p(-one))
        return some

    def threshold_db(self, *, target: float, bits: Real) -> Array:
        """The SNR in decibels (I,) at which a code block fails with probability `target`.

        Raises BadParameter for a target outside [1e-9, 1 - 1e-9] or no bits.
        """
        within("target", target, 1e-9, 1.0 - 1e-9)
        steepness = self.slope_I * np.sqrt(above("bits", bits, 0.0) / REFERENCE_BITS)
        middle_db = self._middle_db(np.arange(self.slope_I.size), bits)
        return middle_db + self.implementation_loss_db + gaussian_tail_inverse(target) / steepness

    def _middle_db(self, scheme: NDArray[np.int64] | int, bits: Real) -> Array:
        """The SNR at which half of the blocks of this length fail."""
        is_other = np.where(self.is_fast_I[scheme], bits <= _SHORT_BITS, bits > _LONG_BITS)
        middle_db: Array = self.s50_db_I[scheme] + is_other * self.other_graph_db_I[scheme]
        return middle_db


def law_document() -> dict[str, Any]:
    """The parsed data file: provenance and rows."""
    text = files("channel.phy").joinpath(DATA_FILE).read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


@lru_cache
def _rows() -> dict[tuple[int, float], tuple[float, float, float, float]]:
    """(s50_db, slope, beta, other_graph_db) by (modulation order, code rate x 1024)."""
    return {
        (row["modulation_order"], float(row["code_rate_1024"])): (
            row["s50_db"],
            row["slope_per_db"],
            row["eesm_beta"],
            row["other_graph_db"],
        )
        for row in law_document()["rows"]
    }
