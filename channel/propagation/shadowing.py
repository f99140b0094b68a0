"""Log-normal shadowing with spatial correlation."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Real, above, whole
from channel.core.special_functions import gaussian_tail, gaussian_tail_inverse

_ROWS = 4096
"""Positions evaluated together, to bound the memory of positions x waves."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShadowField:
    """A standard normal random field in the plane with correlation exp(-distance / decorrelation).

    That is Gudmundson's law (Electronics Letters 27(23), 1991), which is an AR(1) process
    along a straight track. A sum of N plane waves (Cai & Giannakis, IEEE Trans. Veh. Technol. 52(6), 2003)

        s(x) = sqrt(2 / N) sum_n cos(k_n . x + phi_n)

    has the same correlation along any track and is stateless: a position always has the same value. The wave
    numbers follow the spectrum of the exponential law in the plane, whose distribution is
    P(|k| < q) = 1 - (1 + (q decorrelation)^2)^(-1/2); one is drawn in each of N equally likely shells.

    `wave_N2` is in rad/m, `phase_N` in rad. Multiplied by sigma in decibels, the field is the shadowing of
    one base station, shared by its users.
    """

    wave_N2: Array
    phase_N: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, *, decorrelation_m: float, num_waves: int = 256) -> Self:
        """A random field. Raises BadParameter unless decorrelation_m > 0 and num_waves >= 1."""
        above("decorrelation_m", decorrelation_m, 0.0)
        beyond, turn, phase = _shells(rng, num_waves)
        return cls._of(np.sqrt(beyond**-2 - 1.0) / decorrelation_m, turn, phase)

    @classmethod
    def draw_smooth(cls, rng: np.random.Generator, *, decorrelation_m: float, num_waves: int = 256) -> Self:
        """A random field with correlation exp(-(distance / decorrelation)^2) instead.

        It is smooth: along a straight line it has sqrt(2) / (2 pi decorrelation) upward zero crossings per
        metre (Rice, Bell Syst. Tech. J. 24, 1945). The exponential law's field is rough at every scale,
        so a binary state derived from its sign would toggle rapidly along a track.
        """
        above("decorrelation_m", decorrelation_m, 0.0)
        beyond, turn, phase = _shells(rng, num_waves)
        return cls._of(2.0 * np.sqrt(-np.log(beyond)) / decorrelation_m, turn, phase)

    @classmethod
    def _of(cls, radius_N: Array, turn_N: Array, phase_N: Array) -> Self:
        angle = 2.0 * math.pi * turn_N
        waves = np.stack([radius_N * np.cos(angle), radius_N * np.sin(angle)], axis=-1)
        return cls(wave_N2=waves, phase_N=2.0 * math.pi * phase_N)

    def at(self, position_m: Array) -> Array:
        """Values (...) at positions (..., 2) in metres."""
        flat = np.reshape(position_m, (-1, 2)).astype(np.float64)
        values = np.empty(flat.shape[0])
        for first in range(0, flat.shape[0], _ROWS):
            rows = flat[first : first + _ROWS]
            # Elementwise, not a matrix product, whose rounding depends on the number of rows.
            phase = rows[:, :1] * self.wave_N2[:, 0] + rows[:, 1:] * self.wave_N2[:, 1] + self.phase_N
            values[first : first + _ROWS] = np.cos(phase).sum(axis=-1)
        return math.sqrt(2.0 / self.phase_N.size) * values.reshape(np.shape(position_m)[:-1])


def has_line_of_sight(field_value: Array, los_probability: Real) -> NDArray[np.bool_]:
    """Spatially correlated line of sight of the given probability, from a standard normal field.

    The field of TR 38.901 clause 7.6.3.3 has a decorrelation distance of 50 m outdoors, 10 m indoors.
    """
    visible: NDArray[np.bool_] = gaussian_tail(field_value) < los_probability
    return visible


def _shells(rng: np.random.Generator, num_waves: int) -> Array:
    """P(|k| > q) for a wave number in each of N equally likely shells, a direction and a phase: (3, N)."""
    count = whole("num_waves", num_waves, 1)
    draws: Array = rng.random((3, count))
    draws[0] = 1.0 - (np.arange(count) + draws[0]) / count
    return draws


def shadow_outage(margin_db: Real, sigma_db: Real) -> Array:
    """P(shadowing exceeds the margin) = Q(margin / sigma). Raises BadParameter unless sigma_db > 0."""
    return gaussian_tail(margin_db / above("sigma_db", sigma_db, 0.0))


def shadow_margin_db(outage: Real, sigma_db: Real) -> Array:
    """The margin in decibels that shadowing exceeds with probability `outage`: sigma Q^-1(outage)."""
    margin_db: Array = above("sigma_db", sigma_db, 0.0) * gaussian_tail_inverse(outage)
    return margin_db
