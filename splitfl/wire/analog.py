"""Analog transmission of rows of tokens as uncoded symbols with noise.

Each row is normalised by its rms, so that every token has the same mean power, and rescaled at the
receiver; the rms is sent in advance, as bytes. All operations are differentiable.
"""

# N rows: tokens, D hidden

import math
from typing import Final

import numpy as np
import torch
from torch import Tensor

from channel.core.arrays import above
from channel.phy.analog import complex_noise, lmmse, through_air, zero_forcing
from channel.phy.analog import to_values as values_of

EQUALISERS: Final = ("lmmse", "zero-forcing")
FADINGS: Final = ("none", "rayleigh")


def symbols_of(rows_ND: Tensor) -> int:
    """The number of complex symbols of these rows, two values per symbol."""
    return len(rows_ND) * -(-rows_ND.shape[-1] // 2)


def over_the_air(
    rows_ND: Tensor, rng: np.random.Generator, *, snr: float, equaliser: str, fading: str
) -> tuple[Tensor, float]:
    """The equalised rows (N, D), and the factor a of the signal in them.

    y = h sqrt(P) x + n with unit noise and P = `snr`, one h for all rows: 1, or of Rayleigh fading and unit
    mean power. The output is a x + noise: for zero forcing a = 1 and the noise has power
    1 / (P |h|^2) for a unit row; for LMMSE a = g / (1 + g) with g = P |h|^2, and the error, including
    (1 - a) x, has power 1 / (1 + g) (Tse & Viswanath, chapter 8 and appendix A.3).

    Raises BadParameter unless the SNR is above 0.
    """
    above("snr", snr, 0.0)
    count, width = rows_ND.shape
    gain = complex_noise(rng, (1,), 1.0) if fading == "rayleigh" else np.ones(1, dtype=np.complex128)
    zeros = np.zeros((count, -(-width // 2)), dtype=np.complex128)
    received = through_air(rng, zeros, gain, power=snr, noise_power=1.0)  # the equalisers are linear
    if equaliser == "zero-forcing":
        factor, noise = 1.0, zero_forcing(received, gain, power=snr)
    else:
        strength = snr * float(np.abs(gain[0]) ** 2)
        factor, noise = strength / (1.0 + strength), lmmse(received, gain, power=snr, noise_power=1.0)
    noise_ND = torch.from_numpy(values_of(noise, width)).to(rows_ND.dtype)
    # A norm, since the square root of a mean is not differentiable at zero.
    rms_N1 = torch.linalg.vector_norm(rows_ND, dim=-1, keepdim=True) / math.sqrt(width)
    return factor * rows_ND + rms_N1 * noise_ND.to(rows_ND.device), factor
