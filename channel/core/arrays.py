"""Types of real numbers and arrays, and range checks whose errors name the parameter."""

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter

Array = NDArray[np.float64]
Real = float | Array
"""A scalar or an array; several arguments of one call broadcast against each other."""
Complex = NDArray[np.complex128]


def at_least(name: str, got: Real, least: float) -> Array:
    """`got` as a float64 array. Raises BadParameter unless every element is finite and >= `least`."""
    values = np.asarray(got, dtype=np.float64)
    _demand(name, values, np.isfinite(values) & (values >= least), f"be at least {least:g}")
    return values


def above(name: str, got: Real, floor: float) -> Array:
    """`got` as a float64 array. Raises BadParameter unless every element is finite and > `floor`."""
    values = np.asarray(got, dtype=np.float64)
    _demand(name, values, np.isfinite(values) & (values > floor), f"be above {floor:g}")
    return values


def within(name: str, got: Real, low: float, high: float) -> Array:
    """`got` as a float64 array. Raises BadParameter unless every element lies in [low, high]."""
    values = np.asarray(got, dtype=np.float64)
    _demand(name, values, (values >= low) & (values <= high), f"lie in [{low:g}, {high:g}]")
    return values


def whole(name: str, got: int, least: int) -> int:
    """`got` as an int. Raises BadParameter unless it is a whole number >= `least`."""
    if int(got) != got or got < least:
        raise BadParameter(f"{name} must be a whole number of at least {least}, got {got}")
    return int(got)


def _demand(name: str, values: Array, is_good: NDArray[np.bool_], rule: str) -> None:
    if not is_good.all():
        got = values[~is_good].flat[0]
        raise BadParameter(f"{name} must {'be a finite number' if got == np.inf else rule}, got {got}")
