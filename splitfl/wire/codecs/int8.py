"""Eight bits per number."""

from typing import Final

import torch

from splitfl.wire.codecs.symmetric import symmetric

INT8: Final = symmetric("8-bit integers, one float32 scale per token", levels=127, stored=torch.int8)
