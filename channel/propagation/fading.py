"""Small-scale fading of one path: Rayleigh and Rician, with the time correlation of a moving user.

Axes: any leading axes of a process (links, taps, antennas) written `...`; W waves; T times.
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np

from channel.core.arrays import Array, Complex, Real, above, at_least, whole
from channel.core.errors import BadParameter
from channel.core.special_functions import bessel_j0, marcum_q1

TURN = 2.0 * math.pi


@dataclass(frozen=True, kw_only=True, eq=False)
class Fading:
    """A complex gain of unit mean power as a stateless function of time.

    A sum of W waves from W equal sectors of azimuth (Xiao, Zheng & Beaulieu, IEEE Trans. Wireless
    Commun. 5(12), 2006), plus, for a Rice factor K > 0, a line-of-sight wave of constant amplitude:

        h(t) = (1 / sqrt W) sum_n exp j(2 pi f_d t cos alpha_n + phi_n),  alpha_n = 2 pi (n + u_n) / W
        h_K(t) = sqrt(1 / (K + 1)) h(t) + sqrt(K / (K + 1)) exp j(2 pi f_d t cos theta + phi)

    with u_n, phi_n, phi uniform. Over such draws the autocorrelation of h is J0(2 pi f_d tau) exactly
    (Jakes's spectrum), and |h|^2 tends to the exponential law as W grows: E|h|^4 = 2 - 1/W.

    `doppler_hz` (...), `cosine_W` and `phase_W` (..., W) describe the diffuse waves; `k_ratio`,
    `los_cosine` and `los_phase` (...) the line-of-sight wave. All random values are drawn at construction,
    so gains do not depend on the order or number of evaluations.
    """

    doppler_hz: Array
    cosine_W: Array
    phase_W: Array
    k_ratio: Array
    los_cosine: Array
    los_phase: Array

    @classmethod
    def draw(
        cls,
        rng: np.random.Generator,
        *,
        doppler_hz: Real,
        k_ratio: Real = 0.0,
        los_cosine: Real | None = None,
        shape: tuple[int, ...] = (),
        num_waves: int = 32,
    ) -> Self:
        """An array of independent processes of this `shape`, drawn from `rng`.

        `doppler_hz`, `k_ratio` (a power ratio, not decibels) and `los_cosine` broadcast to `shape`; with
        `los_cosine` None the line-of-sight wave has a random direction. Raises BadParameter for a
        negative Doppler shift or Rice factor and for no waves.
        """
        waves = whole("num_waves", num_waves, 1)
        sector, phase = rng.random((2, *shape, waves))
        direction, los_phase = rng.random((2, *shape))
        cosine = np.cos(TURN * direction) if los_cosine is None else np.asarray(los_cosine, dtype=np.float64)
        return cls(
            doppler_hz=np.broadcast_to(at_least("doppler_hz", doppler_hz, 0.0), shape),
            cosine_W=np.cos(TURN * (np.arange(waves) + sector) / waves),
            phase_W=TURN * phase,
            k_ratio=np.broadcast_to(at_least("k_ratio", k_ratio, 0.0), shape),
            los_cosine=np.broadcast_to(cosine, shape),
            los_phase=np.asarray(TURN * los_phase),
        )

    @classmethod
    def stack(cls, processes: list[Self]) -> Self:
        """Stacks processes of equal shape along a new first axis."""
        if len({process.phase_W.shape for process in processes}) != 1:
            shapes = [process.phase_W.shape for process in processes]
            raise BadParameter(f"processes must be at least one and all of equal shape, got {shapes}")
        names = ("doppler_hz", "cosine_W", "phase_W", "k_ratio", "los_cosine", "los_phase")
        return cls(**{name: np.stack([getattr(process, name) for process in processes]) for name in names})

    def gain(self, time_s: Array) -> Complex:
        """Complex gains (..., T) at times (T,) in seconds, in any order."""
        turned = TURN * self.doppler_hz[..., None] * np.asarray(time_s, dtype=np.float64)
        real, imag = np.zeros_like(turned), np.zeros_like(turned)
        # Wave by wave: rounding then does not depend on the number of times.
        for wave in range(self.phase_W.shape[-1]):
            angle = turned * self.cosine_W[..., wave, None] + self.phase_W[..., wave, None]
            real += np.cos(angle)
            imag += np.sin(angle)
        diffuse = np.sqrt(1.0 / ((self.k_ratio + 1.0) * self.phase_W.shape[-1]))[..., None]
        gain: Complex = diffuse * (real + 1j * imag)
        if np.any(self.k_ratio):
            angle = turned * self.los_cosine[..., None] + self.los_phase[..., None]
            gain += np.sqrt(self.k_ratio / (self.k_ratio + 1.0))[..., None] * np.exp(1j * angle)
        return gain


def jakes_correlation(doppler_hz: Real, lag_s: Real) -> Array:
    """E[h(t) h*(t + lag)] of Rayleigh fading: J0(2 pi f_d lag) (Clarke, Bell Syst. Tech. J. 47(6), 1968)."""
    return bessel_j0(TURN * np.asarray(doppler_hz) * lag_s)


def coherence_time_s(doppler_hz: Real) -> Array:
    """0.423 / f_d, the rule of thumb of Rappaport, Wireless Communications, 2nd ed., section 5.4."""
    return 0.423 / above("doppler_hz", doppler_hz, 0.0)


def level_crossing_hz(doppler_hz: Real, level: Real) -> Array:
    """The level crossing rate of |h| at `level` times its rms value: sqrt(2 pi) f_d rho exp(-rho^2).

    Rayleigh fading; Rappaport, section 5.7.
    """
    rho = np.asarray(level)
    rate_hz: Array = math.sqrt(TURN) * at_least("doppler_hz", doppler_hz, 0.0) * rho * np.exp(-(rho**2))
    return rate_hz


def fade_duration_s(doppler_hz: Real, level: Real) -> Array:
    """The mean fade duration of |h| below `level` times rms: (exp(rho^2) - 1) / (rho f_d sqrt(2 pi)).

    Rayleigh fading; Rappaport, section 5.7.
    """
    rho = above("level", level, 0.0)
    duration_s: Array = np.expm1(rho**2) / (rho * above("doppler_hz", doppler_hz, 0.0) * math.sqrt(TURN))
    return duration_s


def rayleigh_outage(threshold: Real, mean_snr: Real) -> Array:
    """P(SNR < threshold) = 1 - exp(-threshold / mean), all power ratios."""
    outage: Array = -np.expm1(-np.asarray(threshold) / above("mean_snr", mean_snr, 0.0))
    return outage


def rician_outage(threshold: Real, mean_snr: Real, k_ratio: Real) -> Array:
    """P(SNR < threshold) = 1 - Q1(sqrt(2 K), sqrt(2 (1 + K) threshold / mean)), all power ratios.

    Simon & Alouini, Digital Communication over Fading Channels, 2nd ed., chapter 2.
    """
    rice = at_least("k_ratio", k_ratio, 0.0)
    ratio = np.asarray(threshold) / above("mean_snr", mean_snr, 0.0)
    return 1.0 - marcum_q1(np.sqrt(2.0 * rice), np.sqrt(2.0 * (1.0 + rice) * ratio))
