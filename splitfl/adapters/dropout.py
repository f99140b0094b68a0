"""LoRA dropout whose masks depend on the step, the module and the sample, and on nothing else.

Hence a split model has the masks of the whole one, and a repeated, resumed or recomputed step has the same.
"""

# B batch, T tokens, D inputs of the module

import math

import numpy as np
import torch
from torch import Tensor, nn

from channel.core.rng import stream
from splitfl.core.errors import ConfigError
from splitfl.models.training_step import CurrentStep


class StepDropout(nn.Module):
    """Zeroes each input with probability `rate` and divides the others by 1 - `rate`, in training steps only.

    The mask (T, D) of a sample is that of the random stream (seed, "dropout", client, round, step, `name`,
    sample), in the order of tokens, so that padding does not change it.
    """

    def __init__(self, name: str, rate: float, current: CurrentStep) -> None:
        super().__init__()
        self.name, self.rate = name, rate
        self._current = current

    def forward(self, x: Tensor) -> Tensor:
        """Raises ConfigError if the rows of the input are not those of the batch."""
        step = self._current.value
        if step is None:
            return x
        rows = step.rows
        if len(x) % len(rows):
            raise ConfigError(
                f"adapter.*.dropout must be 0.0 for {self.name}: its inputs of shape {tuple(x.shape)} are "
                f"not those of {len(rows)} samples"
            )
        numbers = math.prod(x.shape) // len(rows)
        dropped = np.empty((len(rows), numbers), dtype=np.bool_)
        for index, row in enumerate(rows):
            key = ("dropout", row.client, row.round, row.step, self.name, row.sample)
            dropped[index] = stream(step.seed, *key).random(numbers, dtype=np.float32) < self.rate
        mask = torch.from_numpy(dropped).to(x.device).view(x.shape)
        return x.masked_fill(mask, 0.0) / (1.0 - self.rate)
