"""Capacity in bits per symbol: Shannon's bound, ergodic capacity, and mutual information of constellations.

SNR is per complex symbol, E_s / N0.
"""

import math
from functools import lru_cache

import numpy as np

from channel.core.arrays import Array, Real, above, at_least
from channel.core.errors import BadParameter
from channel.core.special_functions import scaled_exponential_integral
from channel.core.units import db_to_ratio, ratio_to_db

GRID_DB = np.arange(-300, 501) / 10.0
"""The SNRs in decibels at which a constellation's mutual information is tabulated; linear in between."""

_TABULATED = (2, 4, 6, 8)


def capacity(snr: Real) -> Array:
    """log2(1 + snr) (Shannon, 1948). Raises BadParameter for a negative ratio."""
    bits: Array = np.log1p(at_least("snr", snr, 0.0)) / math.log(2.0)
    return bits


def rayleigh_capacity(mean_snr: Real) -> Array:
    """Ergodic capacity in Rayleigh fading: log2(e) exp(1/g) E1(1/g).

    Alouini & Goldsmith, IEEE Trans. Veh. Technol. 48(4), 1999. Raises BadParameter unless
    the ratio is above 0.
    """
    bits: Array = scaled_exponential_integral(1.0 / above("mean_snr", mean_snr, 0.0)) / math.log(2.0)
    return bits


def bit_information(modulation_order: int, snr_db: Real) -> Array:
    """Mean mutual information of a coded bit, in [0, 1], of Gray-mapped square QAM with BICM.

    `modulation_order` is bits per symbol: 2, 4, 6 or 8 (Caire, Taricco & Biglieri, IEEE Trans. Inf. Theory
    44(3), 1998). Raises BadParameter for any other.
    Below the grid the information is proportional to the SNR, above it is 1.
    """
    level_db = np.asarray(snr_db, dtype=np.float64)
    table = _bit_information(modulation_order)
    inside = np.interp(level_db, GRID_DB, table)
    below_db = np.minimum(level_db - GRID_DB[0], 0.0)
    return np.asarray(np.where(below_db < 0.0, table[0] * db_to_ratio(below_db), inside), dtype=np.float64)


def snr_db_of_information(modulation_order: int, information: Real) -> Array:
    """The SNR in decibels at which a coded bit carries this information; inverse of `bit_information`.

    An information of 1 or more gives the top of the grid; 0 gives about -3,000 dB.
    Raises BadParameter for a negative information.
    """
    wanted = at_least("information", information, 0.0)
    table = _bit_information(modulation_order)
    # Where rounding makes the table flat, use the first of the equal values.
    rising = np.concatenate([[True], np.diff(np.maximum.accumulate(table)) > 0.0])
    inside = np.interp(wanted, table[rising], GRID_DB[rising])
    faint = GRID_DB[0] + ratio_to_db(np.maximum(wanted / table[0], np.finfo(np.float64).tiny))
    level_db: Array = np.where(wanted < table[0], faint, np.where(wanted >= table[-1], GRID_DB[-1], inside))
    return level_db


@lru_cache
def _bit_information(modulation_order: int) -> Array:
    """The table on GRID_DB: the mean over the bits of one quadrature, a Gray-mapped PAM."""
    if modulation_order not in _TABULATED:
        raise BadParameter(f"modulation_order must be one of {_TABULATED}, got {modulation_order}")
    bits = modulation_order // 2
    count = 2**bits
    spot = np.arange(count)
    label = spot ^ (spot >> 1)
    level = (2.0 * spot - (count - 1)) / math.sqrt(2.0 * (count**2 - 1) / 3.0)
    node, weight = np.polynomial.hermite.hermgauss(64)
    table = np.empty(GRID_DB.size)
    for row, snr in enumerate(db_to_ratio(GRID_DB)):
        sigma = math.sqrt(0.5 / snr)
        sent = level[:, None] + math.sqrt(2.0) * sigma * node
        likelihood = np.exp(-((sent[..., None] - level) ** 2) / (2.0 * sigma**2))
        lost = 0.0
        for bit in range(bits):
            same = (label[:, None] >> bit & 1) == (label >> bit & 1)
            agreeing = np.where(same[:, None, :], likelihood, 0.0).sum(axis=-1)
            lost += float((np.log2(likelihood.sum(axis=-1) / agreeing) @ weight).mean())
        table[row] = 1.0 - lost / (bits * math.sqrt(math.pi))
    return np.clip(table, 0.0, 1.0)
