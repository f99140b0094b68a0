"""Uniform quantisation of blocks within a row, in steps of the block's root mean square.

A number x of a block with root mean square r becomes round(x / (s r)), with the step s: a mid-tread
quantiser whose codebook is known to both ends, so that only indices and one r for each block are sent. An
index is decoded to the mean of the standard normal law over its cell, times r (Lloyd, IEEE Trans. Inf. Theory
28(2), 1982, for the centroid). For numbers that are normal within a block and s <= 0.75, the indices have an
entropy of log2 sqrt(2 pi e) - log2 s bits and the relative error is s / sqrt(12) (high-resolution theory:
Gray & Neuhoff, IEEE Trans. Inf. Theory 44(6), 1998).
"""

# D numbers in a row, N blocks of B numbers in it, ... any axes before

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import torch
from scipy.special import erfc  # type: ignore[import-untyped]
from torch import Tensor
from torch.nn.functional import pad

from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs.casting import leading_axes
from splitfl.wire.codecs.codec import Codec, Parts

_SCALE_BYTES: Final = 2
_MOST_INDEX: Final = 127
_MOST_STEP: Final = 4.0
_LEAST_BLOCK: Final = 8
_MOST_BLOCK: Final = 4096


def uniform(step: float = 0.35, block: int = 256) -> Codec:
    """The codec with this step in units of the root mean square of `block` numbers, or of a shorter row.

    Raises ConfigError for a step below sqrt(block) / 126: the largest number of a block may be sqrt(block)
    times its root mean square, and an index has 8 bits.
    """
    if type(block) is not int or not _LEAST_BLOCK <= block <= _MOST_BLOCK:
        raise ConfigError(f"uniform: block must lie in [{_LEAST_BLOCK}, {_MOST_BLOCK}], got {block}")
    least = math.sqrt(block) / (_MOST_INDEX - 1)
    if not least <= step <= _MOST_STEP:
        raise ConfigError(f"uniform: step must lie in [{least:.4g}, {_MOST_STEP:g}], got {step}")

    def encode(rows: Tensor) -> Parts:
        numbers = rows.to(torch.float32)
        scale = _root_mean_square(numbers, block).to(torch.bfloat16)
        width = _widened(scale, block, numbers.shape[-1]) * step
        index = torch.round(numbers / torch.where(width > 0.0, width, 1.0)).nan_to_num(0.0)
        return {"codes": index.clamp(-_MOST_INDEX, _MOST_INDEX).to(torch.int8), "scale": scale}

    def leading(parts: Parts, width: int) -> Sequence[int]:
        axes, scale = leading_axes(parts["codes"], width, width, torch.int8), parts["scale"]
        if scale.dtype != torch.bfloat16 or scale.shape != (*axes, -(-width // block)):
            raise WireError(
                f"codes of {[*parts['codes'].shape]} must have bfloat16 scales of "
                f"{[*axes, -(-width // block)]}, got {scale.dtype} of {[*scale.shape]}"
            )
        return axes

    def decode(parts: Parts, width: int, dtype: torch.dtype) -> Tensor:
        index = parts["codes"].to(torch.int32) + _MOST_INDEX
        if (index < 0).any():
            raise WireError(f"codes must lie in [-{_MOST_INDEX}, {_MOST_INDEX}], got {-_MOST_INDEX - 1}")
        return (_centroids(step)[index] * _widened(parts["scale"], block, width)).to(dtype)

    def unit_bytes(width: int, dtype: torch.dtype) -> int:
        return width + _SCALE_BYTES * -(-width // block)

    return Codec(
        about="8-bit indices, one bfloat16 scale per block",
        with_options=uniform,
        parts=("codes", "scale"),
        encode=encode,
        leading=leading,
        decode=decode,
        unit_bytes=unit_bytes,
        integers=torch.int8,
        normal_step=step,
        streams=lambda parts, width: [parts["codes"]],
    )


UNIFORM: Final = uniform()


def _root_mean_square(numbers: Tensor, block: int) -> Tensor:
    """The root mean square (..., N) of each block of numbers (..., D); not finite where they are not."""
    width = numbers.shape[-1]
    blocks = pad(numbers, (0, -width % block)).reshape(*numbers.shape[:-1], -(-width // block), block)
    count = torch.full((blocks.shape[-2],), float(block), dtype=torch.float64)
    count[-1] = (width - 1) % block + 1  # of a shorter last block
    return (blocks.to(torch.float64).square().sum(-1) / count).sqrt().to(torch.float32)


def _widened(scale: Tensor, block: int, width: int) -> Tensor:
    """The scale (..., D) of each number as float32; NaN for a block whose scale is not finite."""
    wide = scale.to(torch.float32).repeat_interleave(block, -1)[..., :width]
    return torch.where(wide.isfinite(), wide, torch.nan)


@lru_cache(maxsize=64)
def _centroids(step: float) -> Tensor:
    """The mean of a standard normal variable over the cell of each index from -127 to 127."""
    edge = (torch.arange(_MOST_INDEX + 1, dtype=torch.float64) - 0.5) * step
    upper = edge + step
    tail = torch.from_numpy(erfc((torch.stack([edge, upper]) / math.sqrt(2.0)).numpy()))
    probability = (tail[0] - tail[1]) / 2.0
    density = torch.exp(-torch.stack([edge, upper]).square() / 2.0) / math.sqrt(2.0 * math.pi)
    inside = (density[0] - density[1]) / probability
    # Beyond 37 standard deviations both vanish in double precision; no block of those allowed gets there.
    mean = torch.where(probability > 0.0, inside, edge + step / 2.0)
    mean[0] = 0.0
    return torch.cat([-mean.flip(0)[:-1], mean]).to(torch.float32)
