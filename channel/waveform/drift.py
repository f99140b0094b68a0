"""The drift of symbol timing over a packet, by the difference of two sample clocks."""

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array

EXPECTED = 20e-6
"""The standard deviation of the prior: 20 ppm."""
_STEPS = 3


def clock_difference(pilot_SP: NDArray[np.complex128], power_P: Array, noise: float, turn_SP: Array) -> float:
    """The relative difference of two sample clocks: maximum a posteriori, by Gauss-Newton steps.

    `pilot_SP` are received pilots times the conjugate of the expected ones, whose power is `power_P`, with
    all phases removed but those of the difference d: it turns them by d `turn_SP` radians. `noise` is the
    noise power of a subcarrier. The prior is normal around 0, so that a short or weak packet says little.
    """
    precision, found = 2.0 / max(noise, 1e-9 * float(power_P.mean())), 0.0
    total = precision * float(np.sum(turn_SP**2 @ power_P)) + EXPECTED**-2
    for _ in range(_STEPS):
        error_SP = (pilot_SP * np.exp(-1j * found * turn_SP)).imag
        found += (precision * float(np.vdot(turn_SP, error_SP)) - found * EXPECTED**-2) / total
    return found
