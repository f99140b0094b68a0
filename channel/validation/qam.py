"""Monte Carlo simulation of Gray-mapped square QAM, the reference for the closed forms of `modulation`.

A square constellation is two independent PAMs, so each quadrature is simulated by itself.
"""

import math

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.phy.modulation import MODULATIONS

_PART = 1 << 18
"""Quadratures simulated together, to bound memory."""


def simulated_bit_error_rate(
    rng: np.random.Generator, modulation: str, snr_per_bit: float, *, symbols: int
) -> float:
    """The BER in white Gaussian noise with hard decisions, for QPSK, 16QAM or 64QAM."""
    bits = MODULATIONS[modulation] // 2
    noise = math.sqrt(_energy_per_bit(bits) / snr_per_bit / 2.0)
    wrong, left = 0, 2 * symbols
    while left:
        count = min(left, _PART)
        sent = rng.integers(1 << bits, size=count)
        received = _amplitude(sent, bits) + noise * rng.standard_normal(count)
        wrong += _wrong_bits(sent, received, bits)
        left -= count
    return wrong / (2 * symbols * bits)


def simulated_faded_error_rate(rng: np.random.Generator, gain: Array, snr_per_bit: float) -> float:
    """The BER of BPSK with one bit per amplitude |h| of a fading known to the receiver."""
    received = math.sqrt(2.0 * snr_per_bit) * gain + rng.standard_normal(gain.shape)
    return float((received < 0.0).mean())


def _energy_per_bit(bits: int) -> float:
    return (4.0**bits - 1.0) / (3.0 * bits)


def _amplitude(level: NDArray[np.int64], bits: int) -> Array:
    return 2.0 * level.astype(np.float64) - ((1 << bits) - 1.0)


def _wrong_bits(sent: NDArray[np.int64], received: Array, bits: int) -> int:
    top = (1 << bits) - 1
    found = np.clip(np.rint((received + top) / 2.0), 0, top).astype(np.int64)
    differ = (sent ^ (sent >> 1)) ^ (found ^ (found >> 1))
    return int(sum(((differ >> bit) & 1).sum() for bit in range(bits)))
