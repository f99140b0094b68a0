"""Four bits per number: two signed nibbles per byte, the first in the low bits."""

from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import pad

from splitfl.wire.codecs.symmetric import symmetric


def pack_nibbles(codes: Tensor) -> Tensor:
    """Two int8 numbers in [-8, 7] per byte (uint8), along the last axis; an odd last one is followed by 0."""
    nibbles = pad(codes, (0, codes.shape[-1] % 2)).view(torch.uint8) & 15
    return nibbles[..., ::2] | nibbles[..., 1::2] << 4


def unpack_nibbles(packed: Tensor, width: int) -> Tensor:
    """The first `width` numbers (int8) of the last axis."""
    nibbles = torch.stack([packed & 15, packed >> 4], -1).flatten(-2)[..., :width].to(torch.int8)
    return (nibbles ^ 8) - 8  # the nibble's sign


INT4: Final = symmetric(
    "4-bit integers, one float32 scale per token",
    levels=7,
    stored=torch.uint8,
    per_element=2,
    pack=pack_nibbles,
    unpack=unpack_nibbles,
)
