"""The drift of symbol timing over a packet, by the difference of two sample clocks."""

import numpy as np
from numpy.typing import NDArray

from channel.coding.compiled import compiled
from channel.core.arrays import Array

EXPECTED = 20e-6
"""The standard deviation of the prior: 20 ppm."""
_STEPS = 3


@compiled
def clock_difference(
    pilot_SP: NDArray[np.complex64],
    response_P: NDArray[np.complex64],
    noise: float,
    since: float,
    turn_P: Array,
) -> float:
    """The relative difference of two sample clocks: maximum a posteriori, by Gauss-Newton steps.

    `pilot_SP` are received pilots times the conjugate of the expected ones, `response_P`, with all phases
    removed but those of the difference d: it turns them by d `turn_P` radians in a symbol, of which the first
    is `since` symbols after that without any. `noise` is the noise power of a subcarrier. The prior is normal
    around 0, so that a short or weak packet says little.
    """
    power_P = response_P.real.astype(np.float64) ** 2 + response_P.imag.astype(np.float64) ** 2
    time_S = since + np.arange(pilot_SP.shape[0])
    precision = 2.0 / max(noise, 1e-9 * power_P.mean())
    total = precision * np.sum(time_S**2) * np.sum(turn_P**2 * power_P) + EXPECTED**-2
    found = 0.0
    for _ in range(_STEPS):
        slope = 0.0
        for pilot in range(turn_P.size):
            step = np.exp(-1j * found * turn_P[pilot])
            back = np.exp(-1j * found * turn_P[pilot] * since)
            for symbol in range(time_S.size):
                slope += turn_P[pilot] * time_S[symbol] * (pilot_SP[symbol, pilot] * back).imag
                back *= step
        found += (precision * slope - found * EXPECTED**-2) / total
    return found
