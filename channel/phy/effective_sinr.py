"""Effective SINR mapping: the SINR of a flat channel with the block error rate of a frequency-selective one.

The resource blocks of a transport block differ in SINR. Both mappings have the form f^-1(mean f(SINR)), so
equal SINRs map to themselves. SINRs are ratios in `eesm`, decibels elsewhere; the last axis, over the R
resource blocks, is reduced.
"""

import numpy as np

from channel.core.arrays import Array, Real, above
from channel.core.units import db_to_ratio, ratio_to_db
from channel.phy.capacity import bit_information, snr_db_of_information


def eesm(sinr_R: Array, beta: Real) -> Array:
    """Exponential effective SINR -beta ln mean exp(-SINR / beta), all power ratios: (..., R) -> (...).

    It tends to the mean SINR as beta grows, to the minimum as beta goes to 0. `beta` broadcasts to (...); it
    is fitted per modulation and code rate, in the data file of the law (3GPP TR 25.892 (V6), annex A).
    Raises BadParameter unless beta is above 0.
    """
    scale = above("beta", beta, 0.0)
    least = sinr_R.min(axis=-1)
    # Relative to the minimum, whose exponential is 1: the sum neither overflows nor underflows.
    spread = np.exp(-(sinr_R - least[..., None]) / scale[..., None]).mean(axis=-1)
    effective: Array = least - scale * np.log(spread)
    return effective


def eesm_db(sinr_db_R: Array, beta: Real) -> Array:
    """`eesm` with SINRs and result in decibels."""
    return ratio_to_db(eesm(db_to_ratio(np.asarray(sinr_db_R, dtype=np.float64)), beta))


def miesm_db(sinr_db_R: Array, modulation_order: int) -> Array:
    """Mutual-information effective SINR in decibels: (..., R) -> (...).

    I^-1(mean I(SINR)) with I the information of a coded bit of this constellation (Brueninghaus et al.,
    PIMRC 2005). Needs no fitted constant. Raises BadParameter for an unknown constellation.
    """
    information = bit_information(modulation_order, sinr_db_R).mean(axis=-1)
    effective = snr_db_of_information(modulation_order, information)
    # At an information of 1 the inverse is not unique; the result lies between the extremes.
    return np.clip(effective, sinr_db_R.min(axis=-1), sinr_db_R.max(axis=-1))
