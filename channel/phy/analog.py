"""Uncoded analog transmission: additive noise, equalisers, and over-the-air computation.

A symbol is complex and carries two real values, with unit mean power unless stated otherwise. Axes: K
clients, S symbols, D real values.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Complex, Real, above, at_least
from channel.core.errors import BadParameter
from channel.core.special_functions import exponential_integral


def to_symbols(values: Array) -> Complex:
    """Pairs of real values (..., D) of unit mean square as symbols (..., ceil(D / 2)) of unit mean power."""
    padded = np.pad(values, [(0, 0)] * (values.ndim - 1) + [(0, values.shape[-1] % 2)])
    return np.asarray(padded[..., 0::2] + 1j * padded[..., 1::2], dtype=np.complex128) / math.sqrt(2.0)


def to_values(symbols: Complex, count: int) -> Array:
    """The first `count` real values of such symbols. Raises BadParameter if they hold fewer."""
    if count > 2 * symbols.shape[-1]:
        raise BadParameter(f"count must be at most {2 * symbols.shape[-1]}, got {count}")
    pairs = np.stack([symbols.real, symbols.imag], axis=-1) * math.sqrt(2.0)
    return pairs.reshape(*symbols.shape[:-1], -1)[..., :count]


def complex_noise(rng: np.random.Generator, shape: tuple[int, ...], power: Real) -> Complex:
    """Circular white Gaussian noise of this mean power. Raises BadParameter for a negative power."""
    real, imag = rng.standard_normal((2, *shape))
    noise: Complex = np.sqrt(at_least("power", power, 0.0) / 2.0) * (real + 1j * imag)
    return noise


def through_air(
    rng: np.random.Generator, symbols: Complex, gain: Complex, *, power: Real, noise_power: Real
) -> Complex:
    """The received signal h sqrt(P) x + n for symbols x of unit mean power; gains and powers broadcast."""
    sent = np.sqrt(at_least("power", power, 0.0)) * symbols
    received: Complex = gain * sent
    return received + complex_noise(rng, received.shape, noise_power)


def zero_forcing(received: Complex, gain: Complex, *, power: Real) -> Complex:
    """The symbols y / (h sqrt P): unbiased, error power 1 / SNR (Tse & Viswanath, Fundamentals, chapter 8).

    Raises BadParameter unless power and every |h| are above 0.
    """
    above("|gain|", np.abs(gain), 0.0)
    symbols: Complex = received / (gain * np.sqrt(above("power", power, 0.0)))
    return symbols


def lmmse(received: Complex, gain: Complex, *, power: Real, noise_power: Real) -> Complex:
    """The symbols sqrt(P) h* y / (P |h|^2 + N): minimum error power, 1 / (1 + SNR) (ibid., appendix A.3).

    Raises BadParameter for a negative power or noise that is not above 0.
    """
    transmit = at_least("power", power, 0.0)
    scale = np.sqrt(transmit) / (transmit * np.abs(gain) ** 2 + above("noise_power", noise_power, 0.0))
    symbols: Complex = scale * np.conj(gain) * received
    return symbols


@dataclass(frozen=True, kw_only=True)
class AirSum:
    """The received `mean_D` over the participating clients, and which clients participated (K,)."""

    mean_D: Array
    took_part_K: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class AirComputation:
    """Over-the-air computation with truncated channel inversion (Zhu et al., arXiv 1812.11494).

    Clients send simultaneously, so their signals add. A client of gain h sends sqrt(eta) / h times its
    symbols if |h|^2 >= `truncation` = g0, else nothing, so all signals arrive with equal power. In Rayleigh
    fading a share exp(-g0) participates; the mean transmit power eta E1(g0) is set to `snr` times the noise
    by eta = snr / E1(g0). The mean of K clients then has noise of power 1 / (K^2 eta) per symbol of unit
    power. `phase_error_rad` is the standard deviation of each client's residual phase, which attenuates
    its contribution to exp(-sigma^2 / 2) on average.

    Raises BadParameter unless snr and truncation are above 0 and the phase error at least 0.
    """

    snr: float
    truncation: float = 0.1
    phase_error_rad: float = 0.0

    def __post_init__(self) -> None:
        above("snr", self.snr, 0.0)
        above("truncation", self.truncation, 0.0)
        at_least("phase_error_rad", self.phase_error_rad, 0.0)

    @property
    def participation(self) -> float:
        """P(|h|^2 >= truncation) in Rayleigh fading of unit mean power."""
        return math.exp(-self.truncation)

    @property
    def alignment(self) -> float:
        """eta: the received power of every symbol over the noise power."""
        return self.snr / float(exponential_integral(self.truncation))

    def mean(self, rng: np.random.Generator, values_KD: Array, gain_K: Complex, *, scale: float) -> AirSum:
        """The noisy mean over the participating clients.

        `scale` is the rms of a value, known to all clients in advance: values are divided by it before
        transmission. Without participants the mean is 0 and `took_part_K` is all False.
        Raises BadParameter for shapes that do not match or a scale that is not above 0.
        """
        if values_KD.ndim != 2 or gain_K.shape != values_KD.shape[:1]:
            raise BadParameter(
                f"values_KD must be (K, D) and gain_K (K,), got {values_KD.shape} and {gain_K.shape}"
            )
        above("scale", scale, 0.0)
        took_part = np.abs(gain_K) ** 2 >= self.truncation
        count = int(took_part.sum())
        if not count:
            return AirSum(mean_D=np.zeros(values_KD.shape[1]), took_part_K=took_part)
        turned = np.exp(1j * self.phase_error_rad * rng.standard_normal(gain_K.shape))
        arriving = turned[took_part, None] * to_symbols(values_KD[took_part] / scale)
        total = math.sqrt(self.alignment) * arriving.sum(axis=0)
        received = total + complex_noise(rng, total.shape, 1.0)
        mean = to_values(received / (math.sqrt(self.alignment) * count), values_KD.shape[1])
        return AirSum(mean_D=scale * mean, took_part_K=took_part)
