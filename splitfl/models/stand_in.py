"""What stands, without weights, where another piece's parts would be."""

# B batch, T tokens, D hidden

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn


class Inlet:
    """Where a piece lays the hidden state that it has been handed, as its blocks take it, for one forward."""

    def __init__(self) -> None:
        self.hidden: Tensor | None = None


class Absent(nn.Module):
    """In place of a block of another piece: hands the hidden state on.

    The last one before the piece's own first block gives the handed hidden state instead.
    """

    def __init__(self, inlet: Inlet | None) -> None:
        super().__init__()
        self.inlet = inlet

    def forward(self, hidden_BTD: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.inlet is None:
            return hidden_BTD
        assert self.inlet.hidden is not None
        return self.inlet.hidden


class StandIn(nn.Module):
    """In place of an embedding: zeros of the handed hidden state's shape, which take no memory.

    The model reads their shape, dtype and device; what it adds to them is never used.
    """

    def __init__(self, inlet: Inlet, dtype: torch.dtype) -> None:
        super().__init__()
        self.inlet = inlet
        # ViTModel asks its patch projection for the dtype before it calls the embeddings.
        self.patch_embeddings = SimpleNamespace(
            projection=SimpleNamespace(weight=torch.empty(0, dtype=dtype, device="cpu"))
        )

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        assert self.inlet.hidden is not None
        return self.inlet.hidden.new_zeros(()).expand(self.inlet.hidden.shape)
