"""Placement of base stations and users: positions (x, y) in metres in the plane.

Axes: N users, S sites.
"""

import math

import numpy as np

from channel.core.arrays import Array, above, at_least, whole


def uniform_in_disc(rng: np.random.Generator, count: int, *, radius_m: float, inner_m: float = 0.0) -> Array:
    """Positions (count, 2), uniform in the ring inner_m to radius_m around the origin.

    Raises BadParameter unless 0 <= inner_m < radius_m.
    """
    at_least("inner_m", inner_m, 0.0)
    above("radius_m", radius_m, inner_m)
    area, turn = rng.random((2, whole("count", count, 0)))
    radius = np.sqrt(inner_m**2 + area * (radius_m**2 - inner_m**2))
    return np.stack([radius * np.cos(2 * math.pi * turn), radius * np.sin(2 * math.pi * turn)], axis=-1)


def poisson_in_disc(rng: np.random.Generator, *, per_m2: float, radius_m: float) -> Array:
    """A Poisson point process of density `per_m2` in a disc: positions (count, 2), with a random count."""
    mean = float(above("per_m2", per_m2, 0.0) * math.pi * above("radius_m", radius_m, 0.0) ** 2)
    return uniform_in_disc(rng, int(rng.poisson(mean)), radius_m=radius_m)


def hexagonal_sites(rings: int, *, spacing_m: float) -> Array:
    """A site at the origin and `rings` rings around it: (S, 2) with S = 1 + 3 rings (rings + 1).

    19 sites for two rings, the layout of TR 38.901 table 7.8-1. The site at the origin is the first.
    """
    above("spacing_m", spacing_m, 0.0)
    reach = range(-whole("rings", rings, 0), rings + 1)
    axial = [(column, row) for column in reach for row in reach if abs(column + row) <= rings]
    axial.sort(key=lambda cell: (max(abs(cell[0]), abs(cell[1]), abs(sum(cell))), cell))
    grid = np.asarray(axial, dtype=np.float64)
    return spacing_m * np.stack([grid[:, 0] + grid[:, 1] / 2, grid[:, 1] * math.sqrt(3) / 2], axis=-1)


def distances_m(from_N2: Array, to_S2: Array) -> Array:
    """Horizontal distances (..., N, S) between positions (..., N, 2) and sites (S, 2)."""
    gap = np.asarray(from_N2)[..., :, None, :] - np.asarray(to_S2)
    return np.hypot(gap[..., 0], gap[..., 1])
