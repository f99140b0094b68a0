"""Typed wrappers of scipy.special, which has no type hints; the only file that imports it.

All functions work elementwise on scalars and arrays.
"""

import numpy as np
from scipy import special  # type: ignore[import-untyped]

from channel.core.arrays import Array, Real


def gaussian_tail(x: Real) -> Array:
    """Q(x) = P(N(0, 1) > x) = erfc(x / sqrt 2) / 2."""
    tail: Array = special.ndtr(-np.asarray(x))
    return tail


def gaussian_tail_inverse(probability: Real) -> Array:
    """Q^-1: the x at which Q(x) is `probability`, in (0, 1)."""
    x: Array = -special.ndtri(probability)
    return x


def bessel_j0(x: Real) -> Array:
    """J0(x), the Bessel function of the first kind and of order zero."""
    value: Array = special.j0(x)
    return value


def exponential_integral(x: Real) -> Array:
    """E1(x) = the integral of exp(-t) / t from x to infinity, for x > 0."""
    value: Array = special.exp1(x)
    return value


def scaled_exponential_integral(x: Real) -> Array:
    """exp(x) E1(x) for x > 0, also where exp(x) alone would overflow: Tricomi's U(1, 1, x) (DLMF 13.6.6)."""
    value: Array = special.hyperu(1.0, 1.0, x)
    return value


def marcum_q1(a: Real, b: Real) -> Array:
    """Q1(a, b) = P(a Rice variable of offset a and unit variance per dimension > b), for a, b >= 0."""
    below: Array = special.chndtr(np.square(b), 2.0, np.square(a))
    return 1.0 - below


def hypergeometric(a: Real, b: Real, c: Real, x: Real) -> Array:
    """Gauss's 2F1(a, b; c; x)."""
    value: Array = special.hyp2f1(a, b, c, x)
    return value
