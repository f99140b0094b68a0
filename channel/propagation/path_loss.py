"""Mean path loss over distance: free space, log-distance, and the UMa, UMi and InH of 3GPP TR 38.901.

Distances in metres, carrier frequencies in hertz, losses in decibels (positive numbers).
All functions broadcast their arguments against each other.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Real, above, at_least, within
from channel.core.errors import BadParameter

SPEED_OF_LIGHT_M_S = 299_792_458.0

CARRIER_HZ = (0.5e9, 100e9)
"""The range of carrier frequencies of TR 38.901."""


def free_space_db(distance_m: Real, frequency_hz: Real) -> Array:
    """Free-space loss 20 log10(4 pi d f / c) between isotropic antennas (Friis, Proc. IRE 34(5), 1946).

    Raises BadParameter unless both are above 0.
    """
    distance = above("distance_m", distance_m, 0.0)
    frequency = above("frequency_hz", frequency_hz, 0.0)
    loss_db: Array = 20.0 * np.log10(4.0 * math.pi * distance * frequency / SPEED_OF_LIGHT_M_S)
    return loss_db


def log_distance_db(
    distance_m: Real, *, exponent: Real, reference_db: Real, reference_m: Real = 1.0
) -> Array:
    """PL(d0) + 10 n log10(d / d0) (Rappaport, Wireless Communications, 2nd ed., section 4.9).

    Raises BadParameter unless distances are above 0 and `exponent` at least 0.
    """
    ratio = above("distance_m", distance_m, 0.0) / above("reference_m", reference_m, 0.0)
    loss_db: Array = reference_db + 10.0 * at_least("exponent", exponent, 0.0) * np.log10(ratio)
    return loss_db


def _street(decay_m: float) -> Callable[[Array], Array]:
    """LOS probability of UMi and UMa in table 7.4.2-1, for users up to 13 m high."""

    def probability(distance_2d_m: Array) -> Array:
        near = 18.0 / np.maximum(distance_2d_m, 18.0)
        return near + np.exp(-distance_2d_m / decay_m) * (1.0 - near)

    return probability


def _mixed_office(distance_2d_m: Array) -> Array:
    near = np.exp(-np.maximum(distance_2d_m - 1.2, 0.0) / 4.7)
    return np.where(distance_2d_m < 6.5, near, 0.32 * np.exp(-(distance_2d_m - 6.5) / 32.6))


def _open_office(distance_2d_m: Array) -> Array:
    near = np.exp(-np.maximum(distance_2d_m - 5.0, 0.0) / 70.8)
    return np.where(distance_2d_m <= 49.0, near, 0.54 * np.exp(-(distance_2d_m - 49.0) / 211.7))


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A row of TR 38.901 (V16): path loss of table 7.4.1-1, LOS probability of table 7.4.2-1, shadowing.

    With d = sqrt(d_2D^2 + (base_height_m - user_height_m)^2) and f in GHz,

        LOS   a + b log10 d + 20 log10 f                                   up to the breakpoint
              a + 40 log10 d + 20 log10 f - c log10(d_BP^2 + height difference^2)     beyond it
        NLOS  max(LOS, e + g log10 d + h log10 f - k (user_height_m - 1.5))

    where `los` holds (a, b, c), c of 0 for no breakpoint, and `nlos` holds (e, g, h, k).
    `shadow_db` and `decorrelation_m` are (LOS, NLOS) pairs, from tables 7.4.1-1 and 7.5-6.
    The models hold outdoors from 10 m to 5 km and indoors from 1 m to 150 m; beyond, they are extrapolated.
    For another height use `dataclasses.replace(environment, user_height_m=10.0)`. Raises BadParameter for an
    outdoor user below 1.5 m, or above 13 m, where the environment height becomes random.
    """

    base_height_m: float
    user_height_m: float
    los: tuple[float, float, float]
    nlos: tuple[float, float, float, float]
    shadow_db: tuple[float, float]
    decorrelation_m: tuple[float, float]
    los_law: Callable[[Array], Array]

    def __post_init__(self) -> None:
        if self.has_breakpoint:
            within("user_height_m", self.user_height_m, 1.5, 13.0)
            above("base_height_m", self.base_height_m, 1.0)
        at_least("user_height_m", self.user_height_m, 0.0)
        at_least("base_height_m", self.base_height_m, 0.0)

    @property
    def has_breakpoint(self) -> bool:
        """Whether the model has a breakpoint distance (ground reflection), as outdoors."""
        return self.los[2] > 0.0

    @property
    def is_same_everywhere(self) -> bool:
        return False

    def breakpoint_m(self, frequency_hz: Real) -> Array:
        """d'_BP = 4 (h_BS - 1)(h_UT - 1) f / c, infinite indoors (table 7.4.1-1, note 1)."""
        frequency = _carrier(frequency_hz)
        if not self.has_breakpoint:
            return np.full_like(frequency, np.inf)
        # Note 1 rounds the speed of light to 3.0e8 m/s and assumes an environment height of 1 m.
        return 4.0 * (self.base_height_m - 1.0) * (self.user_height_m - 1.0) * frequency / 3.0e8

    def los_probability(self, distance_2d_m: Real) -> Array:
        """P(line of sight), in [0, 1]. Raises BadParameter for a negative distance."""
        return self.los_law(at_least("distance_2d_m", distance_2d_m, 0.0))

    def path_loss_db(
        self, distance_2d_m: Real, frequency_hz: Real, is_los: bool | NDArray[np.bool_]
    ) -> Array:
        """Mean loss in decibels at a horizontal distance, without shadowing.

        Raises BadParameter for a negative distance, a distance of 0 between equal heights,
        and a carrier outside 0.5-100 GHz.
        """
        along = at_least("distance_2d_m", distance_2d_m, 0.0)
        drop = self.base_height_m - self.user_height_m
        log_distance = np.log10(above("3D distance", np.hypot(along, drop), 0.0))
        carrier = _carrier(frequency_hz)
        log_ghz = np.log10(carrier / 1e9)
        intercept, slope, beyond = self.los
        los_db = intercept + slope * log_distance + 20.0 * log_ghz
        if self.has_breakpoint:
            break_m = self.breakpoint_m(carrier)
            far_db = (
                intercept + 40.0 * log_distance + 20.0 * log_ghz - beyond * np.log10(break_m**2 + drop**2)
            )
            los_db = np.where(along <= break_m, los_db, far_db)
        base, steep, colour, height = self.nlos
        nlos_db = base + steep * log_distance + colour * log_ghz - height * (self.user_height_m - 1.5)
        return np.where(is_los, los_db, np.maximum(los_db, nlos_db))


def _carrier(frequency_hz: Real) -> Array:
    return within("frequency_hz", frequency_hz, *CARRIER_HZ)


def _office(los_law: Callable[[Array], Array]) -> Environment:
    return Environment(
        base_height_m=3.0,
        user_height_m=1.0,
        los=(32.4, 17.3, 0.0),
        nlos=(17.3, 38.3, 24.9, 0.0),
        shadow_db=(3.0, 8.03),
        decorrelation_m=(10.0, 6.0),
        los_law=los_law,
    )


ENVIRONMENTS: dict[str, Environment] = {
    "urban-macro": Environment(
        base_height_m=25.0,
        user_height_m=1.5,
        los=(28.0, 22.0, 9.0),
        nlos=(13.54, 39.08, 20.0, 0.6),
        shadow_db=(4.0, 6.0),
        decorrelation_m=(37.0, 50.0),
        los_law=_street(63.0),
    ),
    "urban-micro": Environment(
        base_height_m=10.0,
        user_height_m=1.5,
        los=(32.4, 21.0, 9.5),
        nlos=(22.4, 35.3, 21.3, 0.3),
        shadow_db=(4.0, 7.82),
        decorrelation_m=(10.0, 13.0),
        los_law=_street(36.0),
    ),
    "indoor-mixed-office": _office(_mixed_office),
    "indoor-open-office": _office(_open_office),
}


def environment_named(name: str) -> Environment:
    """A row of ENVIRONMENTS. Raises BadParameter, with the known names, for an unknown one."""
    if name not in ENVIRONMENTS:
        raise BadParameter(f"environment must be one of {', '.join(ENVIRONMENTS)}, got {name!r}")
    return ENVIRONMENTS[name]
