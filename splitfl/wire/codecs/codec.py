"""The interfaces of codecs: rows of numbers to tensors, and the tensor of codes to fewer bytes.

A chain of codecs is written `projection+rows+coder`, as in `topk+int8+huffman` or `uniform+huffman`; a codec
with options has them behind its name, as in `uniform:step=0.75:block=64` (see `splitfl.config.codec`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
"""Encoded rows as tensors by name; `codes` replaces the rows in a frame."""


@dataclass(frozen=True, kw_only=True)
class CodecStage:
    """One codec of a chain; `with_options` makes it with other options, its keyword arguments of type float
    or int, and raises ConfigError for values that it may not have. None without options."""

    about: str
    with_options: Callable[..., Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Codec(CodecStage):
    """A codec of rows (..., D), one row for each token.

    `parts` are the names of the tensors that `encode` makes of floating-point rows on the CPU. From them
    and D, `leading` computes the axes before D, so that sizes are checked before allocation, and `decode`
    restores the rows in a given type; both raise WireError for inconsistent parts. The same input
    must give the same bits in every process. `leading` only reads type and shape of `codes`.

    `unit_bytes` is the size of one row of D numbers of a type, all parts together. It is None for a codec
    whose rows have no size of their own: lost rows cannot be located then, so that such a codec needs the
    erasure policy `reliable`. The size of its messages depends on the values, unless `fixed_size` says that
    it depends on type and shape alone. Rows have at least `min_width` numbers.

    An entropy coder may follow if `integers` is the type of the codes, of 8 bits. For a coder with a table
    that is not sent, the codes are distributed like a standard normal variable rounded to multiples of
    `normal_step`; None if they are not. `streams` are the integers that `encode` made, before an entropy
    coder, for the measurement of their entropy; None without integers.
    """

    parts: Sequence[str] = ("codes",)
    encode: Callable[[Tensor], Parts]
    leading: Callable[[Parts, int], Sequence[int]]
    decode: Callable[[Parts, int, torch.dtype], Tensor]
    unit_bytes: Callable[[int, torch.dtype], int] | None
    fixed_size: bool = False
    min_width: int = 1
    integers: torch.dtype | None = None
    normal_step: float | None = None
    streams: Callable[[Parts, int], Sequence[Tensor]] | None = None

    @property
    def has_fixed_size(self) -> bool:
        """Whether the size of a message depends on type and shape of its rows alone."""
        return self.fixed_size or self.unit_bytes is not None


@dataclass(frozen=True, kw_only=True)
class Projection(CodecStage):
    """A map of rows (..., D) to fewer numbers (..., K), which a codec of rows encodes.

    `project` returns these numbers, in the type of the rows, and the other tensors that `restore` needs, by
    the names in `parts`; `width` is K, from them and D. `leading` computes the axes before D from those
    before K; it and `restore` raise WireError for inconsistent parts. `unit_bytes` is the size of the parts
    of one row of D numbers; None if they belong to the message. `gaps` is the part that an entropy coder
    codes too, integers of at least 0.
    """

    parts: Sequence[str]
    width: Callable[[Parts, int], int]
    project: Callable[[Tensor], tuple[Tensor, Parts]]
    leading: Callable[[Parts, Sequence[int], int], Sequence[int]]
    restore: Callable[[Tensor, Parts, int], Tensor]
    unit_bytes: Callable[[int], int] | None
    min_width: int = 1
    gaps: str | None = None


@dataclass(frozen=True, kw_only=True)
class KeyedCodec(CodecStage):
    """Differences from earlier rows of the same sample, which the codec of rows behind it encodes.

    A sample's rows are sent whole the first time, and then every `every`-th time (0: only the first time).
    See `splitfl.wire.keyed`.
    """

    every: int


@dataclass(frozen=True, kw_only=True)
class EntropyCoder(CodecStage):
    """A lossless coder of bytes.

    `decode` gets the number of bytes that `encode` was given, and raises ValueError for data that do not
    decode to exactly that many. Both get the `normal_step` of the codes if `needs_law`.
    """

    needs_law: bool = False
    encode: Callable[[bytes, float | None], bytes]
    decode: Callable[[bytes, int, float | None], bytes]
