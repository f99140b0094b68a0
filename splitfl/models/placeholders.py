"""Placeholders without weights for the modules of other pieces."""

# B batch, T tokens, D hidden

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from splitfl.models.families import Family


class HiddenInput:
    """Holds the hidden state given to a piece during one forward pass, in the shape that its blocks take."""

    def __init__(self) -> None:
        self.hidden: Tensor | None = None


class BlockPlaceholder(nn.Module):
    """Replaces a block of another piece by the identity.

    The placeholder before the piece's first block returns the hidden state given to the piece instead.
    The hidden state is the first of `num_returned` values, as from the family's own blocks.
    """

    def __init__(self, hidden_input: HiddenInput | None, num_returned: int = 1) -> None:
        super().__init__()
        self.hidden_input = hidden_input
        self.num_returned = num_returned

    def forward(self, hidden_BTD: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self.hidden_input is not None:
            assert self.hidden_input.hidden is not None
            hidden_BTD = self.hidden_input.hidden
        others = (None,) * (self.num_returned - 1)
        return (hidden_BTD, *others) if others else hidden_BTD


class BiasPlaceholder(BlockPlaceholder):
    """Replaces a block of T5's encoder; the first one computes the position bias that the others add.

    Of the first block the bias's own module is left, with its name.
    """

    def __init__(self, block: nn.Module, hidden_input: HiddenInput | None, *, is_first: bool) -> None:
        super().__init__(hidden_input)
        if is_first:
            attention = block.get_submodule("layer.0.SelfAttention")
            for projection in ("q", "k", "v", "o"):
                delattr(attention, projection)
            self.layer = nn.ModuleList([nn.Module()])
            self.layer[0].SelfAttention = attention
        self.is_first = is_first

    def forward(self, hidden_BTD: Tensor, *args: Any, **kwargs: Any) -> Any:
        _, bias = args[:2]  # after the mask
        if self.is_first:
            tokens = hidden_BTD.shape[1]
            attention = cast(Any, self.layer[0].SelfAttention)
            bias = attention.compute_bias(tokens, tokens, device=hidden_BTD.device)
        return super().forward(hidden_BTD), bias, None


class EmbeddingPlaceholder(nn.Module):
    """Replaces an embedding by zeros of the given hidden state's shape, without storage.

    The model uses their shape, dtype and device only; the sum with other embeddings is discarded. With a
    `grid`, the height and width of the patches of an image are returned beside them.
    """

    def __init__(
        self, hidden_input: HiddenInput, dtype: torch.dtype, grid: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.hidden_input, self.grid = hidden_input, grid
        # ViTModel reads the dtype of its patch projection before it calls the embeddings.
        self.patch_embeddings = SimpleNamespace(
            projection=SimpleNamespace(weight=torch.empty(0, dtype=dtype, device="cpu"))
        )

    def forward(self, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, tuple[int, int]]:
        assert self.hidden_input.hidden is not None
        zeros = self.hidden_input.hidden.new_zeros(()).expand(self.hidden_input.hidden.shape)
        return zeros if self.grid is None else (zeros, self.grid)


def placeholder_of(
    block: nn.Module, hidden_input: HiddenInput | None, family: Family, *, is_first: bool
) -> BlockPlaceholder:
    """The placeholder for a block, the model's first or not, with what the model itself reads of it."""
    if family.shares_bias:
        return BiasPlaceholder(block, hidden_input, is_first=is_first)
    placeholder = BlockPlaceholder(hidden_input, family.num_returned)
    for name in family.attributes:
        value = getattr(block, name)
        setattr(placeholder, name, nn.Identity() if isinstance(value, nn.Module) else value)
    return placeholder


def norm_embeddings(base: nn.Module, family: Family) -> None:
    """Normalises the embeddings where they are made, by the norm without weights behind the blocks."""
    norm = base.get_submodule(family.after[0])
    assert not list(norm.parameters())
    embeddings = base.get_submodule(family.before[0])
    embeddings.register_forward_hook(lambda module, inputs, hidden_BTD: norm(hidden_BTD))


def drop(base: nn.Module, path: str) -> None:
    """Takes away the parameter at `path`, or replaces the module there by the identity, if there is one."""
    parent_path, _, name = path.rpartition(".")
    parent = base.get_submodule(parent_path)
    if getattr(parent, name, None) is not None:
        setattr(parent, name, None if name in parent._parameters else nn.Identity())


def put(base: nn.Module, path: str, part: nn.Module) -> None:
    """Replaces the module at `path` by `part`, if this configuration has one there."""
    parent_path, _, name = path.rpartition(".")
    parent = base.get_submodule(parent_path)
    if getattr(parent, name, None) is not None:
        setattr(parent, name, part)
