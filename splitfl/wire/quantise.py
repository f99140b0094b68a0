"""Rows of tokens in fewer bits: brain floats, or signed integers with one scale for each row.

The per-token symmetric quantiser: a row x of D numbers becomes x / s, rounded to whole numbers, half to
even, with s = max|x| / (2^(b-1) - 1) for b bits. It runs on the CPU in float32, so that every process has
the same bits.
"""

# D numbers in a row, W elements that hold them, ... any axes before: together they count the rows

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from splitfl.core.errors import ConfigError, WireError

_LEVELS: Final = {"int8": 127, "int4": 7}
_HOLDS: Final = {"bf16": torch.bfloat16, "int8": torch.int8, "int4": torch.uint8}
_DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
_SCALE_BYTES: Final = 4
_LEAST_SCALE: Final = torch.finfo(torch.float32).tiny
_SHORT: Final = -1 << 8  # leaves 16 of a float32's 24 significant bits


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """Rows as they travel.

    `codes` is (..., W): D brain floats, D signed bytes, or bytes of two signed nibbles, the first one low.
    `scale` is (...) float32, None for `bf16`; NaN where a row held a number that is not finite.
    """

    codec: str
    dtype: str
    width: int
    codes: Tensor
    scale: Tensor | None = None


def row_bytes(width: int, dtype: torch.dtype, codec: str) -> int:
    """What a row of so many numbers takes, its scale included."""
    if codec == "none":
        return width * dtype.itemsize
    return _elements(width, codec) * _HOLDS[codec].itemsize + (_SCALE_BYTES if codec in _LEVELS else 0)


def quantise(rows: Tensor, codec: str) -> Coded:
    """Floating-point rows (..., D) on the CPU in this codec; the error of `int8` and `int4` is at most s / 2.

    A row with a number that is not finite is NaN everywhere once it is decoded: divergence is to be seen.
    In `bf16` each such number is what it was. A scale below float32's normal range is the least that is
    in it. Raises ConfigError for what has no rows of floating-point numbers.
    """
    dtype = str(rows.dtype).removeprefix("torch.")
    if dtype not in _DTYPES or not rows.ndim or not rows.shape[-1]:
        raise ConfigError(
            f"the codec {codec!r} rounds rows of floating-point numbers, got {dtype} {[*rows.shape]}"
        )
    width = rows.shape[-1]
    if codec == "bf16":
        return Coded(codec=codec, dtype=dtype, width=width, codes=rows.to(torch.bfloat16))
    numbers, levels = rows.to(torch.float32), _LEVELS[codec]
    peak = numbers.abs().amax(-1)
    # With a short scale a code times it is exact: to encode again what was decoded changes nothing.
    scale = (peak / levels).clamp(min=_LEAST_SCALE).view(torch.int32).bitwise_and(_SHORT).view(torch.float32)
    scale = torch.where(peak.isfinite(), scale, torch.nan)
    codes = torch.round(numbers / scale[..., None]).nan_to_num(0.0).to(torch.int8)
    packed = _packed(codes) if codec == "int4" else codes
    return Coded(codec=codec, dtype=dtype, width=width, codes=packed, scale=scale)


def dequantise(coded: Coded, most_bytes: int) -> Tensor:
    """The rows (..., D) in their own type; WireError for parts that do not go together, or for too many."""
    _check(coded, most_bytes)
    dtype = _DTYPES[coded.dtype]
    if coded.scale is None:
        return coded.codes.to(dtype)
    codes = _unpacked(coded.codes, coded.width) if coded.codec == "int4" else coded.codes
    return (codes.to(torch.float32) * coded.scale[..., None]).to(dtype)


def _elements(width: int, codec: str) -> int:
    return -(-width // 2) if codec == "int4" else width


def _packed(codes: Tensor) -> Tensor:
    nibbles = pad(codes, (0, codes.shape[-1] % 2)).view(torch.uint8) & 15
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4


def _unpacked(packed: Tensor, width: int) -> Tensor:
    nibbles = torch.stack([packed & 15, packed >> 4], -1).flatten(-2)[..., :width].to(torch.int8)
    return (nibbles ^ 8) - 8  # the nibble's sign


def _check(coded: Coded, most_bytes: int) -> None:
    codec, codes, scale, width = coded.codec, coded.codes, coded.scale, coded.width
    if codec not in _HOLDS:
        raise WireError(f"a frame of unknown codec {codec!r:.40} came; have {', '.join(_HOLDS)}")
    if coded.dtype not in _DTYPES:
        raise WireError(f"a codec restores {', '.join(_DTYPES)}, got {coded.dtype!r:.40}")
    if codes.dtype != _HOLDS[codec]:
        raise WireError(f"{codec} is held by {_HOLDS[codec]}, got {codes.dtype}")
    if not codes.ndim or width < 1 or codes.shape[-1] != _elements(width, codec):
        raise WireError(f"{codec} rows of {width} numbers came in a tensor of {[*codes.shape]}")
    if (scale is not None) != (codec in _LEVELS):
        raise WireError(f"{codec} rows came {'without their scales' if scale is None else 'with scales'}")
    if scale is not None and (scale.dtype != torch.float32 or scale.shape != codes.shape[:-1]):
        raise WireError(
            f"{codec} codes of {[*codes.shape]} must have float32 scales of {[*codes.shape[:-1]]}, got "
            f"{scale.dtype} of {[*scale.shape]}"
        )
    size = codes.shape[:-1].numel() * width * _DTYPES[coded.dtype].itemsize
    if size > most_bytes:
        raise WireError(f"{codec} rows would take {size} bytes once they are decoded, at most {most_bytes}")
