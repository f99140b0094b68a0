"""Gray-mapped QAM, one quadrature at a time."""

import numpy as np

from channel.core.arrays import Array


def pam_levels(modulation_order: int) -> Array:
    """The amplitude for each label of one quadrature of QAM, by TS 38.211 (V16) clauses 5.1.3 to 5.1.6.

    Shape (2^(modulation_order / 2),); the first bit of a label is the most significant; mean power 1/2.
    """
    half = modulation_order // 2
    label = np.arange(1 << half)
    sign = [1.0 - 2.0 * (label >> (half - 1 - bit) & 1) for bit in range(half)]
    level = np.ones(label.size)
    for bit in range(half - 1, 0, -1):
        level = 2.0 ** (half - bit) - sign[bit] * level
    scaled: Array = sign[0] * level / np.sqrt(2.0 * np.mean(level**2))
    return scaled
