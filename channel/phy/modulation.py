"""Bit error rates of Gray-mapped BPSK, QPSK, 16QAM and 64QAM with coherent detection, in closed form.

`snr_per_bit` is gamma_b = E_b / N0, `mean_snr_per_bit` its mean over the fading; both are power ratios
(not decibels). Modulations are named as in MODULATIONS; QPSK has the bit error rate of BPSK.
"""

import math

import numpy as np

from channel.core.arrays import Array, Real, at_least, whole
from channel.core.errors import BadParameter
from channel.core.special_functions import gaussian_tail

MODULATIONS: dict[str, int] = {"bpsk": 1, "qpsk": 2, "16qam": 4, "64qam": 6}
"""Bits per symbol."""

_TERMS: dict[str, tuple[float, tuple[tuple[float, float], ...]]] = {
    "bpsk": (1.0, ((1 / 2, 1.0),)),
    "qpsk": (1.0, ((1 / 2, 1.0),)),
    "16qam": (2 / 5, ((3 / 8, 1.0), (1 / 4, 3.0), (-1 / 8, 5.0))),
    "64qam": (
        1 / 7,
        ((7 / 24, 1.0), (6 / 24, 3.0), (-1 / 24, 5.0), (1 / 24, 9.0), (-1 / 24, 13.0)),
    ),
}
"""BER = sum of weight x erfc(k sqrt(scale gamma_b)) over (weight, k): Cho & Yoon, IEEE Trans. Commun.
50(7), 2002."""

_ANGLES = (np.arange(128) + 0.5) * (math.pi / 256)
"""Midpoints of (0, pi/2): the midpoint rule converges exponentially, the integrand being periodic."""


def bit_error_rate(modulation: str, snr_per_bit: Real) -> Array:
    """BER in white Gaussian noise.

    Raises BadParameter for an unknown modulation or a negative ratio.
    """
    scale, terms = _terms(modulation)
    snr = at_least("snr_per_bit", snr_per_bit, 0.0)
    rate = np.zeros_like(snr)
    for weight, distance in terms:
        rate = rate + weight * 2.0 * gaussian_tail(distance * np.sqrt(2.0 * scale * snr))
    return rate


def rayleigh_bit_error_rate(modulation: str, mean_snr_per_bit: Real) -> Array:
    """BER averaged over Rayleigh fading with perfect channel knowledge at the receiver.

    For BPSK and QPSK this is (1 - sqrt(g / (1 + g))) / 2 (Proakis, Digital Communications, 4th ed.,
    section 14.3); the other erfc terms average likewise. Errors as in `bit_error_rate`.
    """
    scale, terms = _terms(modulation)
    snr = at_least("mean_snr_per_bit", mean_snr_per_bit, 0.0)
    rate = np.zeros_like(snr)
    for weight, distance in terms:
        branch = distance**2 * scale * snr
        # (1 - sqrt(b / (1 + b))) without cancellation at high SNR.
        rate = rate + weight / ((1.0 + branch) * (1.0 + np.sqrt(branch / (1.0 + branch))))
    return rate


def rician_bit_error_rate(modulation: str, mean_snr_per_bit: Real, k_ratio: Real) -> Array:
    """BER averaged over Rician fading of factor K (a power ratio), by the moment-generating function.

    E erfc(k sqrt(a g)) = (2 / pi) int_0^{pi/2} M(-k^2 a / sin^2 t) dt with
    M(-s) = (1 + K) / (1 + K + s g) exp(-K s g / (1 + K + s g)) (Simon & Alouini, Digital Communication
    over Fading Channels, 2nd ed., chapters 2 and 8). Errors as in `bit_error_rate`.
    """
    scale, terms = _terms(modulation)
    snr = at_least("mean_snr_per_bit", mean_snr_per_bit, 0.0)[..., None]
    rice = at_least("k_ratio", k_ratio, 0.0)[..., None]
    rate = np.zeros(np.broadcast_shapes(snr.shape, rice.shape)[:-1])
    for weight, distance in terms:
        faded = distance**2 * scale * snr / np.sin(_ANGLES) ** 2
        moment = (1.0 + rice) / (1.0 + rice + faded) * np.exp(-rice * faded / (1.0 + rice + faded))
        rate = rate + weight * moment.mean(axis=-1)
    return rate


def combined_bit_error_rate(mean_snr_per_bit: Real, branches: int) -> Array:
    """BER of BPSK with maximum-ratio combining of independent Rayleigh branches of this mean SNR each.

    ((1 - m) / 2)^L sum_k C(L - 1 + k, k) ((1 + m) / 2)^k with m = sqrt(g / (1 + g)) (Proakis, section 14.4).
    """
    snr = at_least("mean_snr_per_bit", mean_snr_per_bit, 0.0)
    count = whole("branches", branches, 1)
    miss = rayleigh_bit_error_rate("bpsk", snr)
    series = sum(math.comb(count - 1 + k, k) * (1.0 - miss) ** k for k in range(count))
    return np.asarray(miss**count * series)


def _terms(modulation: str) -> tuple[float, tuple[tuple[float, float], ...]]:
    if modulation not in _TERMS:
        raise BadParameter(f"modulation must be one of {', '.join(_TERMS)}, got {modulation!r}")
    return _TERMS[modulation]
