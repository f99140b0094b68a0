"""Seeded Rademacher perturbations, reproducible on every node from a seed and a name.

The signs are the raw bits of a named Philox stream, drawn on the CPU: the same in every process and
thread and for every device, whereas normal numbers differ between devices and replays would diverge.
E[u u^T] = I, as the estimators require, and |u|^2 equals the number of parameters exactly. This is our
departure from MeZO, DeComFL and FedKSeed, which draw normal numbers.
"""

import numpy as np
import torch
from torch import Tensor

from channel.core.rng import stream

_WORD_BITS = 64


def rademacher(parameters: int, seed: int, *name: str | int) -> Tensor:
    """A vector (`parameters`,) of signs, +1 or -1, as float32 on the CPU.

    `name` identifies it within the run: client, round, step, perturbation.
    """
    source = stream(seed, "direction", *name).bit_generator
    assert isinstance(source, np.random.Philox)
    words = np.asarray(source.random_raw(-(-parameters // _WORD_BITS)), dtype="<u8")
    bits = np.unpackbits(words.view(np.uint8), count=parameters, bitorder="little")
    return torch.from_numpy(bits).to(torch.float32).mul_(2).sub_(1)
