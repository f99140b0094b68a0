"""Codecs that hold each number by itself in another floating-point type, or in its own."""

from collections.abc import Sequence

import torch
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.wire.codecs.codec import Codec, Parts


def casting(about: str, held: torch.dtype | None) -> Codec:
    """The codec that casts to `held`; None leaves rows in their own type."""

    def encode(rows: Tensor) -> Parts:
        return {"codes": rows if held is None else rows.to(held)}

    def leading(parts: Parts, width: int) -> Sequence[int]:
        return leading_axes(parts["codes"], width, width, held)

    def decode(parts: Parts, width: int, dtype: torch.dtype) -> Tensor:
        return parts["codes"].to(dtype)

    def unit_bytes(width: int, dtype: torch.dtype) -> int:
        return width * (held or dtype).itemsize

    return Codec(about=about, encode=encode, leading=leading, decode=decode, unit_bytes=unit_bytes)


def leading_axes(codes: Tensor, elements: int, width: int, held: torch.dtype | None) -> torch.Size:
    """The axes before the last of (..., elements) codes; WireError for another type or length."""
    if held is not None and codes.dtype != held:
        raise WireError(f"codes must be of type {held}, got {codes.dtype}")
    if not codes.ndim or codes.shape[-1] != elements:
        raise WireError(f"rows of {width} numbers came in a tensor of {[*codes.shape]}")
    return codes.shape[:-1]
