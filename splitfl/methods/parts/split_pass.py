"""A piece's way forth and back that holds less in between: blocks computed twice, batches in parts."""

# B batch, T tokens, D hidden

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from splitfl.config import at_least
from splitfl.data.batch import Batch
from splitfl.data.loader import NOTHING_TO_PREDICT
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.models.cut import Piece


@dataclass(frozen=True, kw_only=True)
class Backpropagation:
    """How a client with backpropagation holds less for it.

    With `checkpoint_head` it computes each of its blocks once more in the backward pass, and it takes
    `micro_batch` samples at a time (0: the whole batch).
    """

    checkpoint_head: bool = False
    micro_batch: int = 0

    def __post_init__(self) -> None:
        at_least("method.micro_batch", self.micro_batch, 0)


@dataclass(frozen=True, kw_only=True)
class Part:
    """Some samples of a batch, and their share of what its mean loss is over."""

    rows: slice
    weight: float

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """These samples' rows."""
        return {name: tensor[self.rows] for name, tensor in tensors.items()}


def parts(labels: Tensor, size: int) -> list[Part]:
    """A batch in parts of at most `size` samples (0: in one), each with its share of the mean loss.

    Labels are (B,) of classes or numbers, (B, C) float32 of several classes each, or (B, T) int64 of tokens,
    of which the first has nothing to predict: a language model's is read from none, and one whose tokens
    have classes begins with a special token. Each sample has something to predict: the loader leaves out
    those that have not.
    """
    is_each = labels.ndim == 1 or labels.is_floating_point()
    counts_B = torch.ones(len(labels)) if is_each else (labels[:, 1:] != NOTHING_TO_PREDICT).sum(1)
    size, total = size or len(labels), float(counts_B.sum())
    all_rows = [slice(first, min(first + size, len(labels))) for first in range(0, len(labels), size)]
    if len(all_rows) == 1:
        return [Part(rows=all_rows[0], weight=1.0)]
    return [Part(rows=rows, weight=float(counts_B[rows].sum()) / total) for rows in all_rows]


class SplitPass:
    """A learner's piece, forth and back again once the gradient has come, and what both take.

    With `micro_batch` nothing is held in between: the way forth is gone a second time, so
    many samples at a time. With `checkpoint_head` each block holds its input alone, and is
    computed a second time on the way back.
    """

    def __init__(self, learner: ClientTrainer, settings: Backpropagation, piece: Piece | None = None) -> None:
        """`piece` takes the place of the learner's own, of whose tensors it is made."""
        self._learner = learner
        self._piece = piece or learner.piece
        self._size = settings.micro_batch
        self._repeats = int(settings.checkpoint_head) + int(bool(settings.micro_batch))
        self._hidden_BTD: Tensor | None = None
        self._batch: Batch | None = None
        if settings.checkpoint_head:
            hold_inputs_alone(self._piece)

    def forth(self, batch: Batch, *, comes_back: bool = True) -> Tensor:
        """The hidden state (B, T, D), without its graph; nothing is held of one that never `comes_back`."""
        learner = self._learner
        with torch.set_grad_enabled(comes_back and not self._size):
            hidden_BTD = torch.cat([self._piece(each, {}) for each in self._inputs(batch)])
        learner.flops += learner.cost(hidden_BTD.shape, self._piece).forward_flops
        if not comes_back:
            return hidden_BTD
        self._hidden_BTD, self._batch = hidden_BTD, batch
        return hidden_BTD.detach()

    def back(self, grad_BTD: Tensor) -> None:
        """Leaves the gradient of the last batch in the learner's tensors."""
        assert self._hidden_BTD is not None
        assert self._batch is not None
        learner, cost = self._learner, self._learner.cost(grad_BTD.shape, self._piece)
        if not self._size:
            torch.autograd.backward(self._hidden_BTD, grad_BTD)
        else:
            first = 0
            for each in self._inputs(self._batch):
                hidden_BTD = self._piece(each, {})
                torch.autograd.backward(hidden_BTD, grad_BTD[first : first + len(hidden_BTD)])
                first += len(hidden_BTD)
        learner.flops += cost.backward_flops + self._repeats * cost.forward_flops
        self.forget()

    def forget(self) -> None:
        """Lets go of a batch whose gradient will not come."""
        self._hidden_BTD = self._batch = None

    def _inputs(self, batch: Batch) -> list[dict[str, Tensor]]:
        size = self._size or len(batch.ids_B)
        return [
            {name: tensor[first : first + size] for name, tensor in batch.inputs.items()}
            for first in range(0, len(batch.ids_B), size)
        ]


def hold_inputs_alone(piece: Piece) -> None:
    """From here on each block of the piece is computed a second time on the way back, and no more often."""
    blocks = piece.base.get_submodule(piece.family.blocks)
    for index in piece.blocks:
        block = blocks.get_submodule(str(index))
        if isinstance(block.forward, partial):
            continue
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
