"""What one step of training or evaluation takes in."""

# B batch, T tokens

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Some samples, ready for a Hugging Face model.

    `ids_B` (int64) number the samples of their client, from 0: a name that says nothing of
    the text, since it travels. `inputs` are the model's own
    keyword arguments, (B, T) int64 each. `labels` is (B,) int64 for classification and
    (B, T) int64 for language models, -100 where there is nothing to predict.
    """

    ids_B: Tensor
    inputs: Mapping[str, Tensor]
    labels: Tensor

    @property
    def shape_BT(self) -> torch.Size:
        """Samples and tokens, padding included."""
        return self.inputs["input_ids"].shape

    def to(self, device: torch.device) -> "Batch":
        """The same batch on this device; its names stay where they are."""
        return Batch(
            ids_B=self.ids_B,
            inputs={name: tensor.to(device) for name, tensor in self.inputs.items()},
            labels=self.labels.to(device),
        )
