"""Per-token symmetric quantisation: signed integers with one scale per row.

A row x of D numbers becomes x / s, rounded half to even, with s = max|x| / (2^(b-1) - 1) for b bits. It
runs on the CPU in float32, so that every process has the same bits. The error is at most s / 2. A row with
a value that is not finite has the scale NaN and is decoded to NaN everywhere, so that divergence is
visible. Scales are clamped to float32's smallest normal number.
"""

# D numbers in a row, W elements that hold them, ... any axes before: together they count the rows

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.wire.codecs.casting import leading_axes
from splitfl.wire.codecs.codec import Codec, Parts

_SCALE_BYTES: Final = 4
_LEAST_SCALE: Final = torch.finfo(torch.float32).tiny
_TRUNCATED: Final = -1 << 8  # leaves 16 of a float32's 24 significant bits


def symmetric(
    about: str,
    *,
    levels: int,
    stored: torch.dtype,
    per_element: int = 1,
    pack: Callable[[Tensor], Tensor] = lambda codes: codes,
    unpack: Callable[[Tensor, int], Tensor] = lambda packed, _: packed,
) -> Codec:
    """The codec with `levels` steps on each side of zero, and `per_element` numbers per element of `stored`.

    `pack` turns int8 codes (..., D) into (..., W) elements, `unpack` elements and D into codes again.
    """

    def encode(rows: Tensor) -> Parts:
        numbers = rows.to(torch.float32)
        scale = _scale(numbers.abs().amax(-1), levels)
        codes = torch.round(numbers / scale[..., None]).nan_to_num(0.0).to(torch.int8)
        return {"codes": pack(codes), "scale": scale}

    def leading(parts: Parts, width: int) -> Sequence[int]:
        axes, scale = leading_axes(parts["codes"], elements(width), width, stored), parts["scale"]
        if scale.dtype != torch.float32 or scale.shape != axes:
            raise WireError(
                f"codes of {[*parts['codes'].shape]} must have float32 scales of {[*axes]}, got "
                f"{scale.dtype} of {[*scale.shape]}"
            )
        return axes

    def decode(parts: Parts, width: int, dtype: torch.dtype) -> Tensor:
        codes = unpack(parts["codes"], width).to(torch.float32)
        return (codes * parts["scale"][..., None]).to(dtype)

    def unit_bytes(width: int, dtype: torch.dtype) -> int:
        return elements(width) * stored.itemsize + _SCALE_BYTES

    def elements(width: int) -> int:
        return -(-width // per_element)

    return Codec(
        about=about,
        parts=("codes", "scale"),
        encode=encode,
        leading=leading,
        decode=decode,
        unit_bytes=unit_bytes,
        integers=stored,
        streams=lambda parts, width: [unpack(parts["codes"], width)],
    )


def _scale(peak: Tensor, levels: int) -> Tensor:
    # With a truncated scale, code times scale is exact, so that encoding decoded rows again is lossless.
    scale = (
        (peak / levels).clamp(min=_LEAST_SCALE).view(torch.int32).bitwise_and(_TRUNCATED).view(torch.float32)
    )
    return torch.where(peak.isfinite(), scale, torch.nan)
