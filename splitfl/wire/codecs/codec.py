"""The interface of codecs: encoding of rows as tensors, and their size."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
"""Encoded rows as tensors by name; `codes` replaces the rows in a frame."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec of rows (..., D), one row for each token.

    `parts` are the names of the tensors that `encode` makes of floating-point rows on the CPU. From them
    and D, `leading` computes the axes before D, so that sizes are checked before allocation, and `decode`
    restores the rows in a given type; both raise WireError for inconsistent parts. The same input
    must give the same bits in every process.

    `unit_bytes` is the size of one row of D numbers of a type, all parts together. It is None for a codec
    whose size depends on the values: lost rows cannot be located then, so that such a codec needs the
    erasure policy `reliable`.
    """

    about: str
    parts: Sequence[str] = ("codes",)
    encode: Callable[[Tensor], Parts]
    leading: Callable[[Parts, int], Sequence[int]]
    decode: Callable[[Parts, int, torch.dtype], Tensor]
    unit_bytes: Callable[[int, torch.dtype], int] | None
