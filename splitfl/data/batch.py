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
    the text, since it travels. `inputs` are the model's own keyword arguments, (B, T) int64
    each, or (B, C, H, W) float32 of pictures. `labels` is (B,) int64 for classification,
    (B,) float32 for regression, (B, C) float32 where a text has several classes, and (B, T) int64 for
    language models, -100 where there is nothing to predict. `tokens` is what
    a picture comes to, where the model's blocks work on tokens.
    """

    ids_B: Tensor
    inputs: Mapping[str, Tensor]
    labels: Tensor
    tokens: int = 0

    @property
    def shape_BT(self) -> torch.Size:
        """Samples and tokens, padding included."""
        ids_BT = self.inputs.get("input_ids")
        return torch.Size((len(self.ids_B), self.tokens)) if ids_BT is None else ids_BT.shape

    def to(self, device: torch.device) -> "Batch":
        """The same batch on this device; its names stay where they are."""
        return Batch(
            ids_B=self.ids_B,
            inputs={name: tensor.to(device) for name, tensor in self.inputs.items()},
            labels=self.labels.to(device),
            tokens=self.tokens,
        )
