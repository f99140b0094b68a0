"""Rows as coordinates along the leading directions of their message, which are sent with them.

The rows X (N, D) of a message are approximated by C V: V (r, D) are its leading right singular vectors, found
by subspace iteration (Halko, Martinsson & Tropp, SIAM Review 53(2), 2011), and C = X pinv(V). V belongs to
the message, in bfloat16, so that no state can differ between the ends: a basis that both knew before would
have to survive every lost message and restart, or be made from text that does not look like the gradients. It
costs 16 r D bits, which pays for messages of many more than r rows. C is handed on by direction, (r, N),
since numbers along one direction have a common scale.
"""

# N rows of a message, D numbers in a row, r directions, ... the axes of the rows

import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs.codec import Parts, Projection

_BASIS: Final = torch.bfloat16
_OVERSAMPLING: Final = 8
_ITERATIONS: Final = 2
_MOST_RANK: Final = 1024
_MOST_AXES: Final = 8


def lowrank(rank: int = 8) -> Projection:
    """The projection on `rank` directions; raises ConfigError for a rank outside [1, 1024]."""
    if not 1 <= rank <= _MOST_RANK:
        raise ConfigError(f"lowrank: rank must lie in [1, {_MOST_RANK}], got {rank}")

    def project(rows: Tensor) -> tuple[Tensor, Parts]:
        rows_ND = rows.reshape(-1, rows.shape[-1]).to(torch.float32)
        basis_rD, coordinates_rN = _factors(rows_ND, rank)
        if not len(rows_ND):
            coordinates_rN = torch.zeros(rank, 1)
        parts = {"basis": basis_rD, "axes": torch.tensor(rows.shape[:-1], dtype=torch.int64)}
        return coordinates_rN.to(rows.dtype), parts

    def width(parts: Parts, width: int) -> int:
        return max(math.prod(_axes(parts)), 1)

    def leading(parts: Parts, short_axes: Sequence[int], width: int) -> Sequence[int]:
        basis = parts["basis"]
        if (*short_axes,) != (rank,) or basis.shape != (rank, width) or basis.dtype != _BASIS:
            raise WireError(
                f"coordinates along {rank} directions of {width} numbers cannot have the shape "
                f"{[*short_axes]} with directions {basis.dtype} {[*basis.shape]}"
            )
        return _axes(parts)

    def restore(left: Tensor, parts: Parts, width: int) -> Tensor:
        axes, dtype = _axes(parts), left.dtype
        found_ND = torch.zeros(math.prod(axes), width)
        # Products are summed in one order, so that a machine with other kernels decodes the same bits.
        for along_N, direction_D in zip(
            left.to(torch.float32), parts["basis"].to(torch.float32), strict=True
        ):
            found_ND += along_N[: len(found_ND), None] * direction_D
        return found_ND.to(dtype).reshape(*axes, width)

    return Projection(
        about=f"coordinates along {rank} directions of the message",
        with_options=lowrank,
        parts=("basis", "axes"),
        width=width,
        project=project,
        leading=leading,
        restore=restore,
        unit_bytes=None,
        min_width=rank,
    )


LOWRANK: Final = lowrank()


def _factors(rows_ND: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The directions (r, D), zero beyond the number of rows, and the coordinates (r, N).

    Rows that are not finite have coordinates NaN, so that divergence is visible.
    """
    count, width = rows_ND.shape
    basis_rD = torch.zeros(rank, width, dtype=_BASIS)
    if not count:
        return basis_rD, torch.zeros(rank, 0)
    if not bool(rows_ND.isfinite().all()):
        return basis_rD, torch.full((rank, count), torch.nan)
    directions = min(rank + _OVERSAMPLING, width)
    span_DR = torch.randn(width, directions, generator=torch.Generator().manual_seed(0))
    for _ in range(_ITERATIONS):
        span_DR = torch.linalg.qr(rows_ND.T @ (rows_ND @ span_DR)).Q
    *_, leading_RR = torch.linalg.svd(rows_ND @ span_DR, full_matrices=False)
    found = (leading_RR[:rank] @ span_DR.T).to(_BASIS)
    basis_rD[: len(found)] = found
    return basis_rD, (rows_ND @ torch.linalg.pinv(basis_rD.to(torch.float32))).T


def _axes(parts: Parts) -> tuple[int, ...]:
    axes = parts["axes"]
    if axes.dtype != torch.int64 or axes.ndim != 1 or axes.numel() > _MOST_AXES:
        raise WireError(
            f"the axes of rows must be at most {_MOST_AXES} integers, got {axes.dtype} {[*axes.shape]}"
        )
    found = tuple(axes.tolist())
    if (found and min(found) < 0) or math.prod(found) > 1 << 40:
        raise WireError(f"the axes of rows are impossible: {[*found]}")
    return found
