"""Fits the two parameters of the law to simulated points: maximum-likelihood probit regression."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from channel.calibration.sweep import Point
from channel.core.arrays import Array, within
from channel.core.errors import BadParameter
from channel.core.special_functions import gaussian_tail, gaussian_tail_inverse
from channel.phy.block_error import REFERENCE_BITS


@dataclass(frozen=True, kw_only=True)
class Fit:
    """BLER = Q(slope sqrt(bits / 1000) (snr_db - s50_db)), with standard errors and the largest deviation.

    `miss_db` is the largest distance in SNR of a simulated point of 1 % to 90 % BLER from the law.
    The standard errors are scaled by the overdispersion of the points.
    """

    s50_db: float
    slope_per_db: float
    s50_error_db: float
    slope_error_per_db: float
    miss_db: float


def fitted(points: Sequence[Point]) -> Fit:
    """The fit to all points of one curve, by Fisher scoring (McCullagh & Nelder, 2nd ed., section 4.4).

    Raises BadParameter for fewer than three SNRs with a BLER strictly between 0 and 1.
    """
    partial = [point for point in points if 0 < point.errors < point.blocks]
    if len({point.snr_db for point in partial}) < 3:
        wanted = "points must have 3 SNRs at which some blocks fail and some do not"
        raise BadParameter(f"{wanted}, got {len(partial)}")
    snr_db = np.asarray([point.snr_db for point in partial])
    blocks = np.asarray([float(point.blocks) for point in partial])
    rate = np.asarray([point.errors / point.blocks for point in partial])
    centre_db = float(snr_db.mean())
    x = np.stack([np.ones(snr_db.size), snr_db - centre_db], axis=-1)
    coefficients = np.asarray(
        np.linalg.lstsq(x, gaussian_tail_inverse(rate), rcond=None)[0], dtype=np.float64
    )
    for _ in range(50):
        line = x @ coefficients
        mean, density = gaussian_tail(line), np.exp(-(line**2) / 2.0) / math.sqrt(2.0 * math.pi)
        weight = blocks * density**2 / (mean * (1.0 - mean))
        covariance = np.asarray(np.linalg.inv(x.T @ (weight[:, None] * x)), dtype=np.float64)
        coefficients = coefficients + covariance @ (x.T @ (weight * (mean - rate) / density))
    scatter = float((weight * ((rate - mean) / density) ** 2).sum()) / max(1, rate.size - 2)
    return _described(coefficients, covariance * max(1.0, scatter), centre_db, points)


def crossing_db(points: Sequence[Point], target: float) -> float:
    """The SNR in decibels at which simulated points cross a BLER of `target`, interpolated in Q^-1.

    Raises BadParameter for a target outside (0, 1) or the range of the points.
    """
    within("target", target, 1e-9, 1.0 - 1e-9)
    ordered = sorted(points, key=lambda point: point.snr_db)
    for low, high in pairwise(ordered):
        rates = low.errors / low.blocks, high.errors / high.blocks
        if rates[0] >= target > rates[1] > 0.0:
            steep = gaussian_tail_inverse(np.asarray(rates))
            share = float((gaussian_tail_inverse(target) - steep[0]) / (steep[1] - steep[0]))
            return low.snr_db + share * (high.snr_db - low.snr_db)
    raise BadParameter(f"target must lie within the simulated points, got {target}")


def _described(coefficients: Array, covariance: Array, centre_db: float, points: Sequence[Point]) -> Fit:
    """s50_db and slope from intercept and slope of the regression; errors by the delta method."""
    intercept, slope = float(coefficients[0]), float(coefficients[1])
    s50_db = centre_db - intercept / slope
    gradient = np.asarray([-1.0 / slope, intercept / slope**2])
    scale = math.sqrt(points[0].curve.bits / REFERENCE_BITS)
    misses_db = [
        s50_db + float(gaussian_tail_inverse(point.errors / point.blocks)) / slope - point.snr_db
        for point in points
        if 0.01 <= point.errors / point.blocks <= 0.9
    ]
    return Fit(
        s50_db=s50_db,
        slope_per_db=slope / scale,
        s50_error_db=math.sqrt(float(gradient @ covariance @ gradient)),
        slope_error_per_db=math.sqrt(float(covariance[1, 1])) / scale,
        miss_db=max(map(abs, misses_db)),
    )
