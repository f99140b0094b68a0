"""Encodes and decodes rows of tokens; sizes are checked before allocation."""

# D numbers in a row, ... any axes before: together they count the rows

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs import Codec, Parts
from splitfl.wire.codecs.chain import codec_of

_DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """Encoded rows (..., D): codec, original type and width D, and parts."""

    codec: str
    dtype: str
    width: int
    parts: Parts


def encode_rows(rows: Tensor, codec: str) -> Coded:
    """Encodes floating-point rows (..., D) on the CPU; raises ConfigError for other tensors."""
    dtype = str(rows.dtype).removeprefix("torch.")
    if dtype not in _DTYPES or not rows.ndim or not rows.shape[-1]:
        raise ConfigError(
            f"the codec {codec!r} encodes rows of floating-point numbers, got {dtype} {[*rows.shape]}"
        )
    chosen = codec_of(codec)
    if rows.shape[-1] < chosen.min_width:
        raise ConfigError(
            f"the codec {codec!r} needs rows of at least {chosen.min_width} numbers, got {rows.shape[-1]}"
        )
    parts = {name: part.contiguous() for name, part in chosen.encode(rows).items()}
    if {*parts} != {*chosen.parts}:
        raise ConfigError(f"the codec {codec!r} must make the parts that it declares, got {', '.join(parts)}")
    return Coded(codec=codec, dtype=dtype, width=rows.shape[-1], parts=parts)


def decode_rows(coded: Coded, max_bytes: int) -> Tensor:
    """The rows (..., D) in their original type; raises WireError for bad parts and above `max_bytes`."""
    codec, width = received_codec(coded.codec), coded.width
    if coded.dtype not in _DTYPES:
        raise WireError(f"the type of rows must be one of {', '.join(_DTYPES)}, got {coded.dtype!r:.40}")
    dtype = _DTYPES[coded.dtype]
    if missing := [name for name in codec.parts if name not in coded.parts]:
        raise WireError(f"{coded.codec}: rows lack the parts {', '.join(missing)}")
    if width < codec.min_width:
        raise WireError(f"{coded.codec}: a row must have at least {codec.min_width} numbers, got {width}")
    try:
        shape = (*codec.leading(coded.parts, width), width)
        size = math.prod(shape) * dtype.itemsize
        if size > max_bytes:
            raise WireError(f"decoded rows must take at most {max_bytes} bytes, got {size}")
        rows = codec.decode(coded.parts, width, dtype)
    except WireError as error:
        raise WireError(f"{coded.codec}: {error}") from None
    except (RuntimeError, IndexError) as error:  # of torch, in the codec of another package
        raise WireError(f"{coded.codec}: rows cannot be decoded: {error}") from error
    if rows.shape != shape or rows.dtype != dtype:
        raise WireError(f"{coded.codec}: rows of {[*shape]} were decoded to {rows.dtype} {[*rows.shape]}")
    return rows


def row_bytes(width: int, dtype: torch.dtype, codec: str) -> int | None:
    """Bytes of a row of D = `width` numbers, all parts together; None if they depend on the values."""
    unit_bytes = codec_of(codec).unit_bytes
    return unit_bytes(width, dtype) if unit_bytes else None


def received_codec(name: str) -> Codec:
    """The codec that a frame names; raises WireError if it is not installed.

    A frame of `none` names no codec, so that its bytes are those of a frame without one.
    """
    if name == "none":
        raise WireError("a frame has unknown codec 'none'")
    try:
        return codec_of(name)
    except ConfigError as error:
        raise WireError(str(error)) from None
