"""Rows of tokens as a codec writes them, and back: checked before anything is allocated."""

# D numbers in a row, ... any axes before: together they count the rows

import math
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs import CODECS, Codec, Parts

_DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """Encoded rows (..., D): by which codec, of which type and width D they were, and their parts."""

    codec: str
    dtype: str
    width: int
    parts: Parts


def encode_rows(rows: Tensor, codec: str) -> Coded:
    """Floating-point rows (..., D) on the CPU by this codec; ConfigError for what has no such rows."""
    dtype = str(rows.dtype).removeprefix("torch.")
    if dtype not in _DTYPES or not rows.ndim or not rows.shape[-1]:
        raise ConfigError(
            f"the codec {codec!r} encodes rows of floating-point numbers, got {dtype} {[*rows.shape]}"
        )
    parts = {name: part.contiguous() for name, part in CODECS[codec].encode(rows).items()}
    if {*parts} != {*CODECS[codec].parts}:
        raise ConfigError(f"the codec {codec!r} must make the parts it names, got {', '.join(parts)}")
    return Coded(codec=codec, dtype=dtype, width=rows.shape[-1], parts=parts)


def decode_rows(coded: Coded, max_bytes: int) -> Tensor:
    """The rows (..., D) in their own type; WireError for parts that do not fit together, or for too many."""
    codec, width = received_codec(coded.codec), coded.width
    if coded.dtype not in _DTYPES:
        raise WireError(f"a codec restores {', '.join(_DTYPES)}, got {coded.dtype!r:.40}")
    dtype = _DTYPES[coded.dtype]
    if missing := [name for name in codec.parts if name not in coded.parts]:
        raise WireError(f"{coded.codec}: rows came without {', '.join(missing)}")
    if width < 1:
        raise WireError(f"{coded.codec}: a row must have at least 1 number, got {width}")
    try:
        shape = (*codec.leading(coded.parts, width), width)
        size = math.prod(shape) * dtype.itemsize
        if size > max_bytes:
            raise WireError(f"rows would take {size} bytes once they are decoded, at most {max_bytes}")
        rows = codec.decode(coded.parts, width, dtype)
    except WireError as error:
        raise WireError(f"{coded.codec}: {error}") from None
    except (RuntimeError, IndexError) as error:  # torch's, in the codec of another package
        raise WireError(f"{coded.codec}: rows cannot be decoded: {error}") from error
    if rows.shape != shape or rows.dtype != dtype:
        raise WireError(f"{coded.codec}: rows of {[*shape]} were decoded to {rows.dtype} {[*rows.shape]}")
    return rows


def row_bytes(width: int, dtype: torch.dtype, codec: str) -> int | None:
    """What a row of D = `width` numbers takes, all parts together; None where it depends on the numbers."""
    unit_bytes = CODECS[codec].unit_bytes
    return unit_bytes(width, dtype) if unit_bytes else None


def received_codec(name: str) -> Codec:
    """The codec that a frame names; WireError for one that is not installed here.

    A frame of `none` names no codec, so that its bytes are those of a frame without one.
    """
    if name == "none" or name not in CODECS:
        known = ", ".join(one for one in CODECS if one != "none")
        raise WireError(f"a frame of unknown codec {name!r:.40} came; have {known}")
    try:
        return CODECS[name]
    except ConfigError as error:
        raise WireError(str(error)) from None
