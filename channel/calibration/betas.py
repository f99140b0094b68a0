"""The constants beta of EESM, fitted to agree with mutual-information effective SINR mapping (MIESM)."""

import numpy as np

from channel.core.arrays import Array
from channel.core.rng import stream
from channel.core.units import ratio_to_db
from channel.phy.effective_sinr import eesm_db, miesm_db
from channel.propagation.tdl import TappedDelayLine

LINKS = 400
RESOURCE_BLOCKS = 52
SPREAD_S = 300e-9
_BLOCK_HZ = 180e3


def fitted_beta(modulation_order: int, s50_db: float, *, seed: int = 0) -> float:
    """The beta with which EESM is closest to MIESM at the threshold of a scheme.

    Least squares, in decibels, over draws of TDL-C (300 ns, 52 resource blocks), each scaled to a
    mutual-information effective SINR of `s50_db`. Found by a bracketing search to 0.1 %.
    """
    faded_db = _at_effective(_responses_db(seed), modulation_order, s50_db)

    def error(log_beta: float) -> float:
        return float(np.mean((eesm_db(faded_db, float(np.exp(log_beta))) - s50_db) ** 2))

    low, high = -2.0, 6.0
    while high - low > 1e-3:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if error(left) < error(right) else (left, high)
    return float(np.exp((low + high) / 2))


def _responses_db(seed: int) -> Array:
    """The power in decibels of independent links in each resource block: (LINKS, RESOURCE_BLOCKS)."""
    line = TappedDelayLine.stack(
        [
            TappedDelayLine.draw(
                stream(seed, "calibration", link), profile="C", delay_spread_s=SPREAD_S, doppler_hz=0.0
            )
            for link in range(LINKS)
        ]
    )
    response = line.response(np.zeros(1), _BLOCK_HZ * np.arange(RESOURCE_BLOCKS, dtype=np.float64))[:, 0]
    return ratio_to_db(np.abs(response) ** 2)


def _at_effective(level_db_R: Array, modulation_order: int, target_db: float) -> Array:
    """Every row shifted in decibels, by bisection, to an effective SINR of `target_db`."""
    low = np.full((level_db_R.shape[0], 1), target_db - 40.0)
    high = np.full_like(low, target_db + 60.0)
    for _ in range(45):
        middle = (low + high) / 2
        is_below = miesm_db(level_db_R + middle, modulation_order)[:, None] < target_db
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return level_db_R + (low + high) / 2
