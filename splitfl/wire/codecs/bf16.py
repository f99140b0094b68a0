"""Brain floats: the range of float32 in 16 bits (Kalamkar et al., arXiv:1905.12322)."""

from typing import Final

import torch

from splitfl.wire.codecs.casting import casting

BF16: Final = casting("bfloat16, 16 bits per number", torch.bfloat16)
