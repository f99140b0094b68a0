"""What a codec is: how rows of numbers are written as tensors, and what that takes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
"""Encoded rows as tensors by name; `codes` travels in the place of the rows themselves."""


@dataclass(frozen=True, kw_only=True)
class Codec:
    """A codec of rows (..., D), one row for each token.

    `parts` are the names of the tensors that `encode` makes of floating-point rows on the CPU. From them
    and D, `leading` says the axes before D, so that a size is checked before it is allocated, and `decode`
    restores the rows in a type; both raise WireError for parts that do not fit together. The same input
    must give the same bits in every process.

    `unit_bytes` is what one row of D numbers of a type takes, all parts together. It is None for a codec
    whose size depends on the numbers: lost rows cannot be told from others then, so that such a codec
    is refused with every erasure policy but `reliable`.
    """

    about: str
    parts: Sequence[str] = ("codes",)
    encode: Callable[[Tensor], Parts]
    leading: Callable[[Parts, int], Sequence[int]]
    decode: Callable[[Parts, int, torch.dtype], Tensor]
    unit_bytes: Callable[[int, torch.dtype], int] | None
