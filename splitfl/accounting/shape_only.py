"""A piece without computation, for dry runs: outputs and gradients have the real shapes."""

# B batch, T tokens, D hidden

from collections.abc import Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from splitfl.accounting.saved_tensors import SavedTensors
from splitfl.adapters.inject import trainable
from splitfl.models.cut import Piece
from splitfl.models.families import IMAGE_CLASSIFICATION
from splitfl.models.feature_maps import places
from splitfl.models.training_step import TrainingStep, training_step


class ShapeOnlyPiece(Piece):
    """Replaces a piece loaded without weights: its output depends on all trainable tensors.

    Gradients, also of second order, exist and have the real shapes; their values are meaningless.
    """

    def __init__(self, piece: Piece, *, is_noisy: bool = False) -> None:
        """Takes ownership of the modules of `piece`.

        If `is_noisy`, first hidden states and their gradients are standard normal up to a factor: the sizes
        of codecs that depend on values are then those of normal values.
        """
        nn.Module.__init__(self)
        self.__dict__.update(piece.__dict__)
        self._is_noisy = is_noisy
        for path, value in list(self.named_parameters()):
            if value.requires_grad:  # trainable tensors need their own storage
                holder, _, leaf = path.rpartition(".")
                self.get_submodule(holder)._parameters[leaf] = nn.Parameter(torch.zeros(value.shape))
        if hasattr(self.block_config, "num_experts_per_tok"):  # a grouped product needs weights with storage
            self.model.set_experts_implementation("eager")
        self._largest: tuple[Any, Mapping[str, Tensor], Tensor | None] | None = None

    def forward(
        self,
        x: Tensor | Mapping[str, Tensor],
        context: Mapping[str, Tensor] | None = None,
        labels: Tensor | None = None,
    ) -> Any:
        """Like `Piece.forward`; the loss is meaningless but differentiable."""
        touched = sum((value.float().mean() for value in trainable(self).values()), torch.zeros(()))
        if torch.is_grad_enabled() and touched.requires_grad:
            self._remember(x, context or {}, labels)
        hidden_BTD = x if isinstance(x, Tensor) else self._first(x)
        if self._is_noisy and self.is_first:
            hidden_BTD = _normal(hidden_BTD.shape).to(hidden_BTD.dtype)
        out_BTD = hidden_BTD * (1.0 + touched).to(hidden_BTD.dtype)
        if self.family.hands_pictures and not self.is_last:  # each block has a shape of its own
            shape = (len(out_BTD), *places(self.block_config, self.blocks.stop))
            out_BTD = out_BTD.mean().expand(shape)
            out_BTD = out_BTD + _normal(shape) if self._is_noisy else out_BTD
        if not self.is_last:
            return out_BTD
        out_BTD = out_BTD.float() * _normal(out_BTD.shape) if self._is_noisy else out_BTD.float()
        return SimpleNamespace(loss=(out_BTD.mean() + 1.0) * (1.0 + touched))

    def saved_bytes(self) -> int:
        """The peak bytes that autograd holds for the largest batch, by a forward of empty weights."""
        if self._largest is None:
            return 0
        rows = _rows(self._largest[0])
        step = TrainingStep(seed=0, client=0, round=0, step=0, ids=range(rows))  # dropout saves its masks
        with SavedTensors(self.parameters()) as saved, training_step(step, self):
            super().forward(*self._largest)
        return saved.peak_bytes

    def _remember(self, x: Tensor | Mapping[str, Tensor], context: Mapping[str, Tensor], labels: Any) -> None:
        size = _tokens(x)
        if self._largest is None or size > _tokens(self._largest[0]):
            kept = x.detach().clone() if isinstance(x, Tensor) else dict(x)
            self._largest = (kept, dict(context), labels)

    def _first(self, inputs: Mapping[str, Tensor]) -> Tensor:
        config = self.block_config
        if self.family.hands_pictures:
            return torch.zeros(len(inputs["pixel_values"]), 1, 1, dtype=self.model.dtype)
        if self.kind == IMAGE_CLASSIFICATION:
            tokens = (config.image_size // config.patch_size) ** 2 + self.family.has_class_token
            shape = (len(inputs["pixel_values"]), tokens, config.hidden_size)
        else:
            shape = (*inputs["input_ids"].shape, config.hidden_size)
        has_wide_sums = getattr(config, "residual_in_fp32", False)  # Mamba's
        return torch.zeros(shape, dtype=torch.float32 if has_wide_sums else self.model.dtype)


@lru_cache(maxsize=8)
def _normal(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def _rows(x: Tensor | Mapping[str, Tensor]) -> int:
    return len(x if isinstance(x, Tensor) else next(iter(x.values())))


def _tokens(x: Tensor | Mapping[str, Tensor]) -> int:
    """The size of the first two axes of a batch, by which batches are compared."""
    if isinstance(x, Tensor):
        return x.shape[:2].numel()
    return next(iter(x.values())).shape[:2].numel()
