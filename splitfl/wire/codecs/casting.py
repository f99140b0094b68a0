"""Codecs that cast each number to another floating-point type, or leave it unchanged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.wire.codecs.codec import Codec, Parts


def casting(about: str, stored: torch.dtype | None) -> Codec:
    """The codec that casts to `stored`; None keeps the rows' type."""

    def encode(rows: Tensor) -> Parts:
        return {"codes": rows if stored is None else rows.to(stored)}

    def leading(parts: Parts, width: int) -> Sequence[int]:
        return leading_axes(parts["codes"], width, width, stored)

    def decode(parts: Parts, width: int, dtype: torch.dtype) -> Tensor:
        return parts["codes"].to(dtype)

    def unit_bytes(width: int, dtype: torch.dtype) -> int:
        return width * (stored or dtype).itemsize

    return Codec(about=about, encode=encode, leading=leading, decode=decode, unit_bytes=unit_bytes)


def leading_axes(codes: Tensor, elements: int, width: int, stored: torch.dtype | None) -> torch.Size:
    """The axes before the last of (..., elements) codes; raises WireError for another type or length."""
    if stored is not None and codes.dtype != stored:
        raise WireError(f"codes must be of type {stored}, got {codes.dtype}")
    if not codes.ndim or codes.shape[-1] != elements:
        raise WireError(
            f"codes of rows of {width} numbers have shape {[*codes.shape]}, must end in {elements}"
        )
    return codes.shape[:-1]
