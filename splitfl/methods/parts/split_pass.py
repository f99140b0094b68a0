"""Forward and backward passes on a client, with activation checkpointing and micro-batches."""

# B batch, T tokens, D hidden

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from splitfl.config import at_least
from splitfl.data.batch import Batch
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.label_counts import label_counts
from splitfl.models.cut import Piece
from splitfl.models.training_step import TrainingStep, training_step


@dataclass(frozen=True, kw_only=True)
class Backpropagation:
    """Memory saving in a client with backpropagation.

    With `checkpoint_head` each block is recomputed in the backward pass (activation checkpointing);
    `micro_batch` is the number of samples computed at a time (0: the whole batch).
    """

    checkpoint_head: bool = False
    micro_batch: int = 0

    def __post_init__(self) -> None:
        at_least("method.micro_batch", self.micro_batch, 0)


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Consecutive samples of a batch, and their weight in the batch's mean loss."""

    rows: slice
    weight: float

    def of(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The rows of these samples in tensors (B, ...)."""
        return {name: tensor[self.rows] for name, tensor in tensors.items()}


def micro_batches(labels: Tensor, size: int, kind: str) -> list[MicroBatch]:
    """The micro-batches of at most `size` samples (0: one of all), with their weights in the mean loss."""
    counts_B = label_counts(labels, kind)
    size, total = size or len(labels), float(counts_B.sum())
    all_rows = [slice(first, min(first + size, len(labels))) for first in range(0, len(labels), size)]
    if len(all_rows) == 1:
        return [MicroBatch(rows=all_rows[0], weight=1.0)]
    return [MicroBatch(rows=rows, weight=float(counts_B[rows].sum()) / total) for rows in all_rows]


class SplitPass:
    """The forward pass of a client's piece, and its backward pass from the gradient at the cut.

    With `micro_batch` no graph is held in between: the forward pass is recomputed in micro-batches during
    the backward pass. With `checkpoint_head` each block keeps only its input and is recomputed.
    """

    def __init__(self, trainer: ClientTrainer, settings: Backpropagation, piece: Piece | None = None) -> None:
        """`piece`, made of the trainer's tensors, replaces the trainer's own piece."""
        self._trainer = trainer
        self._piece = piece or trainer.piece
        self._size = settings.micro_batch
        self._repeats = int(settings.checkpoint_head) + int(bool(settings.micro_batch))
        self._hidden_BTD: Tensor | None = None
        self._batch: Batch | None = None
        self._step: TrainingStep | None = None
        if settings.checkpoint_head:
            enable_checkpointing(self._piece)

    def forward(
        self, batch: Batch, step: TrainingStep | None = None, *, needs_backward: bool = True
    ) -> Tensor:
        """The hidden state (B, T, D), detached; without `needs_backward` nothing is kept for `backward`.

        Dropout masks are those of the `step`; there are none without it.
        """
        trainer = self._trainer
        with torch.set_grad_enabled(needs_backward and not self._size):
            hidden_BTD = torch.cat([self._computed(batch, rows, step) for rows in self._rows(batch)])
        trainer.flops += trainer.cost(hidden_BTD.shape[:2], self._piece).forward_flops
        if not needs_backward:
            return hidden_BTD
        self._hidden_BTD, self._batch, self._step = hidden_BTD, batch, step
        return hidden_BTD.detach()

    def backward(self, grad_BTD: Tensor) -> None:
        """Accumulates the gradient of the last batch in the trainer's tensors, from (B, T, D) at the cut."""
        assert self._hidden_BTD is not None
        assert self._batch is not None
        trainer, cost = self._trainer, self._trainer.cost(grad_BTD.shape[:2], self._piece)
        if not self._size:
            with training_step(self._step, self._piece):  # of recomputed blocks
                torch.autograd.backward(self._hidden_BTD, grad_BTD)
        else:
            for rows in self._rows(self._batch):
                hidden_BTD = self._computed(self._batch, rows, self._step)
                with training_step(self._step and self._step.of(rows), self._piece):
                    torch.autograd.backward(hidden_BTD, grad_BTD[rows])
        trainer.flops += cost.backward_flops + self._repeats * cost.forward_flops
        self.discard()

    def discard(self) -> None:
        """Drops the batch of the last forward pass and its graph."""
        self._hidden_BTD = self._batch = self._step = None

    def _computed(self, batch: Batch, rows: slice, step: TrainingStep | None) -> Tensor:
        """The hidden state of these samples."""
        with training_step(step and step.of(rows), self._piece):
            hidden_BTD: Tensor = self._piece({name: value[rows] for name, value in batch.inputs.items()}, {})
        return hidden_BTD

    def _rows(self, batch: Batch) -> list[slice]:
        size = self._size or len(batch.ids_B)
        return [slice(first, first + size) for first in range(0, len(batch.ids_B), size)]


class WholePass:
    """The forward and backward pass of a whole model, with the memory saving of `SplitPass`."""

    def __init__(self, trainer: ClientTrainer, settings: Backpropagation) -> None:
        self._trainer = trainer
        self._size = settings.micro_batch
        self._is_checkpointed = settings.checkpoint_head
        if settings.checkpoint_head:
            enable_checkpointing(trainer.piece)

    def backpropagate(self, batch: Batch, step: TrainingStep) -> float:
        """Accumulates the gradient of the batch's mean loss in the trainer's tensors; returns the loss."""
        trainer, found = self._trainer, 0.0
        for micro in micro_batches(batch.labels, self._size, trainer.piece.kind):
            with training_step(step.of(micro.rows), trainer.piece):
                loss = trainer.piece(micro.of(batch.inputs), {}, batch.labels[micro.rows]).loss * micro.weight
                loss.backward()
            found += loss.item()
        cost = trainer.cost(batch.shape)
        trainer.flops += cost.step_flops + self._is_checkpointed * cost.forward_flops
        return found


def enable_checkpointing(piece: Piece) -> None:
    """Enables activation checkpointing in every block of the piece, at most once each."""
    for block in piece.own_blocks:
        if isinstance(block.forward, partial):
            continue
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
