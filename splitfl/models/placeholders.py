"""Placeholders without weights for the modules of other pieces."""

# B batch, T tokens, D hidden

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class HiddenInput:
    """Holds the hidden state given to a piece during one forward pass, in the shape that its blocks take."""

    def __init__(self) -> None:
        self.hidden: Tensor | None = None


class BlockPlaceholder(nn.Module):
    """Replaces a block of another piece by the identity.

    The placeholder before the piece's first block returns the hidden state given to the piece instead.
    """

    def __init__(self, hidden_input: HiddenInput | None) -> None:
        super().__init__()
        self.hidden_input = hidden_input

    def forward(self, hidden_BTD: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.hidden_input is None:
            return hidden_BTD
        assert self.hidden_input.hidden is not None
        return self.hidden_input.hidden


class EmbeddingPlaceholder(nn.Module):
    """Replaces an embedding by zeros of the given hidden state's shape, without storage.

    The model uses their shape, dtype and device only; the sum with other embeddings is discarded.
    """

    def __init__(self, hidden_input: HiddenInput, dtype: torch.dtype) -> None:
        super().__init__()
        self.hidden_input = hidden_input
        # ViTModel reads the dtype of its patch projection before it calls the embeddings.
        self.patch_embeddings = SimpleNamespace(
            projection=SimpleNamespace(weight=torch.empty(0, dtype=dtype, device="cpu"))
        )

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        assert self.hidden_input.hidden is not None
        return self.hidden_input.hidden.new_zeros(()).expand(self.hidden_input.hidden.shape)
