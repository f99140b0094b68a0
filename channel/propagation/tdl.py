"""Tapped delay lines TDL-A to TDL-E of 3GPP TR 38.901, for frequency-selective fading.

Axes: `...` links; L taps; T times; F frequencies.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from channel.core.arrays import Array, Complex, Real, at_least
from channel.core.errors import BadParameter
from channel.core.units import db_to_ratio
from channel.propagation.fading import Fading

_LOS_DOPPLER_SHARE = 0.7
"""The Doppler shift of the line-of-sight tap over the maximum, clause 7.7.2."""


@dataclass(frozen=True)
class DelayProfile:
    """Normalised delays and mean powers of the Rayleigh taps, and the power of a line-of-sight first tap."""

    delay_L: tuple[float, ...]
    power_db_L: tuple[float, ...]
    los_power_db: float | None = None

    @cached_property
    def power_L(self) -> Array:
        """Mean tap powers (L,) with sum 1, the line-of-sight part included."""
        power, los = self._power_limits()
        power[0] += los
        power.flags.writeable = False
        return power

    @cached_property
    def k_ratio_L(self) -> Array:
        """The Rice factor of each tap (L,): 0 except for the first tap of a line-of-sight profile."""
        power, los = self._power_limits()
        ratio = np.zeros_like(power)
        ratio[0] = los / power[0]
        ratio.flags.writeable = False
        return ratio

    def _power_limits(self) -> tuple[Array, float]:
        diffuse = db_to_ratio(np.asarray(self.power_db_L))
        los = 0.0 if self.los_power_db is None else float(db_to_ratio(self.los_power_db))
        total = float(diffuse.sum()) + los
        return diffuse / total, los / total


PROFILES: dict[str, DelayProfile] = {
    "A": DelayProfile(  # table 7.7.2-1
        (
            *(0.0, 0.3819, 0.4025, 0.5868, 0.4610, 0.5375, 0.6708, 0.5750, 0.7618, 1.5375, 1.8978, 2.2242),
            *(2.1718, 2.4942, 2.5119, 3.0582, 4.0810, 4.4579, 4.5695, 4.7966, 5.0066, 5.3043, 9.6586),
        ),
        (
            *(-13.4, 0.0, -2.2, -4.0, -6.0, -8.2, -9.9, -10.5, -7.5, -15.9, -6.6, -16.7),
            *(-12.4, -15.2, -10.8, -11.3, -12.7, -16.2, -18.3, -18.9, -16.6, -19.9, -29.7),
        ),
    ),
    "B": DelayProfile(  # table 7.7.2-2
        (
            *(0.0, 0.1072, 0.2155, 0.2095, 0.2870, 0.2986, 0.3752, 0.5055, 0.3681, 0.3697, 0.5700, 0.5283),
            *(1.1021, 1.2756, 1.5474, 1.7842, 2.0169, 2.8294, 3.0219, 3.6187, 4.1067, 4.2790, 4.7834),
        ),
        (
            *(0.0, -2.2, -4.0, -3.2, -9.8, -1.2, -3.4, -5.2, -7.6, -3.0, -8.9, -9.0),
            *(-4.8, -5.7, -7.5, -1.9, -7.6, -12.2, -9.8, -11.4, -14.9, -9.2, -11.3),
        ),
    ),
    "C": DelayProfile(  # table 7.7.2-3
        (
            *(0.0, 0.2099, 0.2219, 0.2329, 0.2176, 0.6366, 0.6448, 0.6560, 0.6584, 0.7935, 0.8213, 0.9336),
            *(1.2285, 1.3083, 2.1704, 2.7105, 4.2589, 4.6003, 5.4902, 5.6077, 6.3065, 6.6374, 7.0427, 8.6523),
        ),
        (
            *(-4.4, -1.2, -3.5, -5.2, -2.5, 0.0, -2.2, -3.9, -7.4, -7.1, -10.7, -11.1),
            *(-5.1, -6.8, -8.7, -13.2, -13.9, -13.9, -15.8, -17.1, -16.0, -15.7, -21.6, -22.8),
        ),
    ),
    "D": DelayProfile(  # table 7.7.2-4
        (0.0, 0.035, 0.612, 1.363, 1.405, 1.804, 2.596, 1.775, 4.042, 7.937, 9.424, 9.708, 12.525),
        (-13.5, -18.8, -21.0, -22.8, -17.9, -20.1, -21.9, -22.9, -27.8, -23.6, -24.8, -30.0, -27.7),
        los_power_db=-0.2,
    ),
    "E": DelayProfile(  # table 7.7.2-5
        (
            *(0.0, 0.5133, 0.5440, 0.5630, 0.5440, 0.7112, 1.9092, 1.9293, 1.9589, 2.6426, 3.7136, 5.4524),
            *(12.0034, 20.6519),
        ),
        (
            *(-22.03, -15.8, -18.1, -19.8, -22.9, -22.4, -18.6, -20.8, -22.6, -22.3, -25.6, -20.2),
            *(-29.8, -29.2),
        ),
        los_power_db=-0.03,
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TappedDelayLine:
    """Independently fading taps at `delay_s_L` with mean powers `power_L`, which sum to 1."""

    delay_s_L: Array
    power_L: Array
    fading: Fading

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        profile: str,
        delay_spread_s: float,
        doppler_hz: Real,
        num_waves: int = 32,
    ) -> Self:
        """One link of this profile, its delays the table's times `delay_spread_s` (equation 7.7-1).

        `doppler_hz` is the maximum shift of the link. Raises BadParameter for an unknown profile and
        for a negative delay spread or Doppler shift.
        """
        if profile not in PROFILES:
            raise BadParameter(f"profile must be one of {', '.join(PROFILES)}, got {profile!r}")
        row = PROFILES[profile]
        return cls(
            delay_s_L=np.asarray(row.delay_L) * at_least("delay_spread_s", delay_spread_s, 0.0),
            power_L=row.power_L,
            fading=Fading.draw(
                rng,
                doppler_hz=doppler_hz,
                k_ratio=row.k_ratio_L,
                los_cosine=_LOS_DOPPLER_SHARE,
                shape=(len(row.delay_L),),
                num_waves=num_waves,
            ),
        )

    @classmethod
    def stack(cls, lines: list[Self]) -> Self:
        """Stacks links of equal delays along a new first axis. Raises BadParameter if delays differ."""
        if not lines or any(not np.array_equal(line.delay_s_L, lines[0].delay_s_L) for line in lines):
            raise BadParameter("lines must be at least one and all have the same delays")
        fading = Fading.stack([line.fading for line in lines])
        return cls(delay_s_L=lines[0].delay_s_L, power_L=lines[0].power_L, fading=fading)

    def taps(self, time_s: Array) -> Complex:
        """Complex tap gains (..., L, T) at times (T,) in seconds."""
        gain: Complex = np.sqrt(self.power_L)[:, None] * self.fading.gain(time_s)
        return gain

    def response(self, time_s: Array, frequency_hz: Array) -> Complex:
        """H(t, f) = sum_l h_l(t) exp(-j 2 pi f tau_l), of mean power 1: (..., T, F).

        `frequency_hz` (F,) is relative to the carrier.
        """
        taps = self.taps(time_s)
        turn = np.exp(-2j * math.pi * self.delay_s_L[:, None] * np.asarray(frequency_hz))
        response = np.zeros((*taps.shape[:-2], taps.shape[-1], turn.shape[-1]), dtype=np.complex128)
        # Tap by tap: rounding then does not depend on the number of times.
        for tap in range(self.delay_s_L.size):
            response += taps[..., tap, :, None] * turn[tap]
        return response


def rms_delay_spread(delay: Array, power: Array) -> float:
    """The power-weighted rms delay spread, in the unit of the delays."""
    share = power / power.sum()
    mean = float(share @ delay)
    return math.sqrt(float(share @ (delay - mean) ** 2))
