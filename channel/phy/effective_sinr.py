"""One number for many: the SINR of a flat channel on which a block would fail as often as on this one.

Every resource block of a transport block has its own SINR; a code sees them all. Both maps have the form
f^-1(mean f(SINR)), so that equal SINRs give themselves. Powers are ratios in `eesm`, decibels in the rest;
the last axis holds the R resource blocks and goes away.
"""

import numpy as np

from channel.core.arrays import Array, Real, above
from channel.core.units import db_to_ratio, ratio_to_db
from channel.phy.capacity import bit_information, snr_db_of_information


def eesm(sinr_R: Array, beta: Real) -> Array:
    """Exponential effective SINR -beta ln mean exp(-SINR / beta), all power ratios: (..., R) -> (...).

    The mean of the SINRs as beta grows, their least as it goes to 0. `beta` broadcasts to (...), is fitted to
    each modulation and code, and stands in the law's data file (3GPP TR 25.892 (V6), annex A).
    Raises BadParameter unless beta is above 0.
    """
    scale = above("beta", beta, 0.0)
    least = sinr_R.min(axis=-1)
    # Measured from the least, whose exponential is 1: the sum neither overflows nor vanishes.
    spread = np.exp(-(sinr_R - least[..., None]) / scale[..., None]).mean(axis=-1)
    effective: Array = least - scale * np.log(spread)
    return effective


def eesm_db(sinr_db_R: Array, beta: Real) -> Array:
    """The same from decibels to decibels."""
    return ratio_to_db(eesm(db_to_ratio(np.asarray(sinr_db_R, dtype=np.float64)), beta))


def miesm_db(sinr_db_R: Array, modulation_order: int) -> Array:
    """Mutual-information effective SINR in decibels: (..., R) -> (...).

    I^-1(mean I(SINR)) with I the information of a coded bit of this constellation (Brueninghaus et al.,
    PIMRC 2005). Needs no fitted constant. Raises BadParameter for an unknown constellation.
    """
    information = bit_information(modulation_order, sinr_db_R).mean(axis=-1)
    effective = snr_db_of_information(modulation_order, information)
    # Where every bit is certain the inverse is not unique; the answer lies between the extremes.
    return np.clip(effective, sinr_db_R.min(axis=-1), sinr_db_R.max(axis=-1))
