"""Interference from co-channel cells, bursty neighbours and jammers, and the resulting SINR.

Axes: U users, C cells. PowerLimits in watts, gains as power ratios (below 1), both at the receiver's antenna.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from channel.core.arrays import Array, Real, above, at_least, within
from channel.core.markov import TwoState
from channel.core.special_functions import hypergeometric
from channel.core.units import db_to_ratio


class Interferer(Protocol):
    """A source whose radiated power varies in time, independent of the cell."""

    def power_w(self, time_s: Array) -> Array:
        """Radiated watts at times in seconds, of any shape."""
        ...

    @property
    def min_w(self) -> float:
        """The minimum over time of the radiated power."""
        ...


@dataclass(frozen=True, kw_only=True)
class BurstyInterferer:
    """Radiates `on_w` while its two-state process is on, and nothing while it is off."""

    on_w: float
    activity: TwoState

    def __post_init__(self) -> None:
        at_least("on_w", self.on_w, 0.0)

    def power_w(self, time_s: Array) -> Array:
        return np.where(self.activity.is_on(time_s), self.on_w, 0.0)

    @property
    def min_w(self) -> float:
        return 0.0


@dataclass(frozen=True, kw_only=True)
class Jammer:
    """A pulse jammer: from `start_s` it radiates `on_w` for the first `duty` of every `period_s`.

    A duty of 1 is continuous. Raises BadParameter for a negative power, a period of 0 or a duty
    outside [0, 1].
    """

    on_w: float
    period_s: float
    duty: float
    start_s: float = 0.0

    def __post_init__(self) -> None:
        at_least("on_w", self.on_w, 0.0)
        above("period_s", self.period_s, 0.0)
        within("duty", self.duty, 0.0, 1.0)
        at_least("start_s", self.start_s, 0.0)

    def power_w(self, time_s: Array) -> Array:
        since = np.asarray(time_s, dtype=np.float64) - self.start_s
        is_on = (np.mod(since, self.period_s) < self.duty * self.period_s) & (since >= 0.0)
        return np.where(is_on, self.on_w, 0.0)

    @property
    def min_w(self) -> float:
        return self.on_w if self.duty == 1.0 and self.start_s == 0.0 else 0.0


def received_w(power_w: Real, loss_db: Real) -> Array:
    """The received power in watts after a loss in decibels (antenna gains are negative losses)."""
    received: Array = at_least("power_w", power_w, 0.0) * db_to_ratio(-np.asarray(loss_db, dtype=np.float64))
    return received


def sinr(signal_w: Real, interference_w: Real, noise_w: Real) -> Array:
    """S / (N + I), a power ratio; `interference_w` is the sum over all sources.

    Raises BadParameter for a negative power, or noise that is not above 0.
    """
    disturbance = at_least("interference_w", interference_w, 0.0) + above("noise_w", noise_w, 0.0)
    ratio: Array = at_least("signal_w", signal_w, 0.0) / disturbance
    return ratio


def downlink_sinr(power_w_C: Array, gain_UC: Array, noise_w: Real, *, load_C: Real = 1.0) -> Array:
    """SINR (U, C) of every user if served by each of these co-channel cells.

    `load_C` in [0, 1] is the share of its power that a cell radiates as an interferer. Errors as in `sinr`.
    """
    received_UC = at_least("power_w_C", power_w_C, 0.0) * at_least("gain_UC", gain_UC, 0.0)
    other_UC = received_UC * within("load_C", load_C, 0.0, 1.0)
    # The sum over other cells, not total minus own, which would cancel next to a strong serving cell.
    without = np.ones((other_UC.shape[-1],) * 2) - np.eye(other_UC.shape[-1])
    return sinr(received_UC, np.einsum("...uc,cs->...us", other_UC, without), noise_w)


def rayleigh_coverage(threshold: Real, mean_snr: Real, mean_sir: Real) -> Array:
    """P(SINR > threshold), Rayleigh signal against noise and one Rayleigh interferer; all power ratios.

    exp(-threshold / mean_snr) mean_sir / (mean_sir + threshold); without noise mean_snr is infinite.
    """
    theta = at_least("threshold", threshold, 0.0)
    coverage: Array = np.exp(-theta / np.asarray(mean_snr)) / (1.0 + theta / above("mean_sir", mean_sir, 0.0))
    return coverage


def poisson_coverage(threshold: Real, *, exponent: float = 4.0) -> Array:
    """P(SIR > threshold) with the nearest of Poisson-placed base stations serving, Rayleigh fading, no noise.

    1 / 2F1(1, -2/a; 1 - 2/a; -threshold) for path-loss exponent a > 2, which is the
    1 / (1 + sqrt(threshold) atan sqrt(threshold)) of a = 4 (Andrews, Baccelli & Ganti, IEEE Trans. Commun.
    59(11), 2011).
    """
    ratio = 2.0 / float(above("exponent", exponent, 2.0))
    return 1.0 / hypergeometric(1.0, -ratio, 1.0 - ratio, -at_least("threshold", threshold, 0.0))


def bursty_error_rate(duty: Real, error_rate_on: Real, error_rate_off: Real) -> Array:
    """The error rate of blocks much shorter than the bursts: duty e_on + (1 - duty) e_off."""
    share = within("duty", duty, 0.0, 1.0)
    return share * error_rate_on + (1.0 - share) * error_rate_off
