"""Random directions that anyone draws again from their name alone: one bit, and so one sign, a parameter.

Rademacher vectors from the raw bits of a named Philox stream, drawn on the CPU and then
moved: the same in every process and thread and on every device, where the normal numbers
of two devices differ and a replay would drift apart unseen. E[u u^T] = I, as the
estimators ask, and |u|^2 is the number of parameters exactly.
"""

import numpy as np
import torch
from torch import Tensor

from channel.core.rng import stream

_WORD_BITS = 64


def rademacher(parameters: int, seed: int, *name: str | int) -> Tensor:
    """One sign, +1 or -1, for each of so many parameters: float32 on the CPU.

    The name says whose direction it is and when: client, round, step, perturbation.
    """
    source = stream(seed, "direction", *name).bit_generator
    assert isinstance(source, np.random.Philox)
    words = np.asarray(source.random_raw(-(-parameters // _WORD_BITS)), dtype="<u8")
    bits = np.unpackbits(words.view(np.uint8), count=parameters, bitorder="little")
    return torch.from_numpy(bits).to(torch.float32).mul_(2).sub_(1)
