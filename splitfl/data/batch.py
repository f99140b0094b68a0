"""A batch, the input of one training or evaluation step."""

# B batch, T tokens

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """Samples in the input format of a Hugging Face model.

    `ids_B` (int64) are the indices of the samples at their client, from 0; they are sent to the
    server and reveal nothing about the text. `inputs` are the model's keyword arguments, (B, T) int64
    each, or (B, C, H, W) float32 for images. `labels` is (B,) int64 for classification,
    (B,) float32 for regression, (B, C) float32 for multi-label classification, and (B, T) int64 for language
    models and token classification, with -100 at ignored positions. `tokens` is the number of tokens
    per image, for models whose blocks work on tokens; `client` is -1 for held-out samples. `has_answers`:
    labels are answers of (B, U) tokens of their own, for a model with a decoder.
    """

    ids_B: Tensor
    inputs: Mapping[str, Tensor]
    labels: Tensor
    tokens: int = 0
    client: int = -1
    has_answers: bool = False

    @property
    def shape(self) -> torch.Size:
        """(B, T), or (B, T, U) with answers: the numbers of samples and tokens, padding included."""
        ids_BT = self.inputs.get("input_ids")
        shape = torch.Size((len(self.ids_B), self.tokens)) if ids_BT is None else ids_BT.shape
        return shape + self.labels.shape[1:] if self.has_answers else shape

    def to(self, device: torch.device) -> "Batch":
        """The batch on this device, except for `ids_B`."""
        return replace(
            self,
            inputs={name: tensor.to(device) for name, tensor in self.inputs.items()},
            labels=self.labels.to(device),
        )
