"""Conversion between decibels and power ratios; the only file that converts."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter

Level = TypeVar("Level", float, NDArray[np.float64])
"""A scalar or an array; the result has the type of the argument."""


def db_to_ratio(level_db: Level) -> Level:
    """A power ratio from decibels: 10^(level_db / 10)."""
    ratio: Level = np.power(10.0, level_db / 10.0)
    return ratio


def ratio_to_db(ratio: Level) -> Level:
    """Decibels from a power ratio: 10 log10(ratio). Raises BadParameter unless all are above 0."""
    if not np.all(np.greater(ratio, 0.0)):
        raise BadParameter(f"a ratio or power in decibels must be above 0, got {np.min(ratio)}")
    level_db: Level = 10.0 * np.log10(ratio)
    return level_db


def dbm_to_w(level_dbm: Level) -> Level:
    """Watts from decibels above one milliwatt."""
    return 1e-3 * db_to_ratio(level_dbm)


def w_to_dbm(power_w: Level) -> Level:
    """Decibels above one milliwatt from watts. Raises BadParameter unless all are above 0."""
    return ratio_to_db(1e3 * power_w)
