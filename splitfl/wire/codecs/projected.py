"""A projection to fewer numbers, followed by a codec of rows and, if any, an entropy coder."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from splitfl.wire.codecs.codec import Codec, EntropyCoder, Parts, Projection
from splitfl.wire.codecs.entropy import coded_gaps, entropy_coded, gaps_in


def projected(projection: Projection, rows: Codec, coder: EntropyCoder | None, name: str) -> Codec:
    """`rows` applied to what `projection` leaves, then `coder`, which also codes the gaps of the projection.

    `name` is the chain's, for errors. Raises ConfigError as `entropy_coded` does; the numbers left have no
    known distribution.
    """
    short = replace(rows, normal_step=None)
    if coder is not None:
        short = entropy_coded(short, coder, name)
    gaps = projection.gaps if coder is not None else None

    def encode(numbers: Tensor) -> Parts:
        left, parts = projection.project(numbers)
        if coder is not None and gaps is not None:
            parts = {**parts, gaps: coded_gaps(parts[gaps], coder)}
        return {**parts, **short.encode(left)}

    def leading(parts: Parts, width: int) -> Sequence[int]:
        return projection.leading(parts, short.leading(parts, projection.width(parts, width)), width)

    def decoded(parts: Parts, width: int) -> Parts:
        if coder is None or gaps is None:
            return parts
        short_width = projection.width(parts, width)
        shape = torch.Size((*short.leading(parts, short_width), short_width))
        return {**parts, gaps: gaps_in(parts[gaps], shape, width, coder)}

    def decode(parts: Parts, width: int, dtype: torch.dtype) -> Tensor:
        left = short.decode(parts, projection.width(parts, width), dtype)
        return projection.restore(left, decoded(parts, width), width)

    def streams(parts: Parts, width: int) -> Sequence[Tensor]:
        assert short.streams is not None
        codes = short.streams(parts, projection.width(parts, width))
        return codes if projection.gaps is None else [*codes, decoded(parts, width)[projection.gaps]]

    def unit_bytes(width: int, dtype: torch.dtype) -> int:
        assert short.unit_bytes is not None
        assert projection.unit_bytes is not None
        return short.unit_bytes(projection.width({}, width), dtype) + projection.unit_bytes(width)

    is_by_row = short.unit_bytes is not None and projection.unit_bytes is not None
    return replace(
        short,
        about=f"{projection.about}, then {short.about}",
        with_options=None,
        parts=(*short.parts, *projection.parts),
        encode=encode,
        leading=leading,
        decode=decode,
        unit_bytes=unit_bytes if is_by_row else None,
        fixed_size=short.has_fixed_size,
        min_width=projection.min_width,
        integers=None,
        streams=streams if short.streams else None,
    )
