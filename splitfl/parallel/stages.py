"""`stages`: each rank has consecutive blocks of the body, which are computed one rank after another.

The trained tensors are on every rank. After a backward pass each rank has the gradients of its own, and all
others receive them, bit for bit: every rank takes the same step, and the results are those of one device.
"""

# B batch, T tokens, D hidden

import dataclasses
from collections.abc import Mapping
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from splitfl.adapters.inject import trainable
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.families import block_index
from splitfl.parallel.ranks import Ranks
from splitfl.setup.pieces import PieceLoader


def staged_body(loader: PieceLoader, ranks: Ranks) -> Piece:
    """The body with trained tensors on every rank, and frozen weights of this rank's blocks only."""
    whole = dataclasses.replace(loader, is_shape_only=True, device="cpu").body()
    if len(whole.blocks) < ranks.size:
        raise ConfigError(
            f"server.ranks must be at most {len(whole.blocks)} with server.shard 'stages', the number of "
            f"blocks above the cut, got {ranks.size}"
        )
    stages = divided(whole, ranks.size)
    whole.computed_by = Stages(whole, loader.stage(stages[ranks.rank]), stages, ranks)
    return whole


def divided(body: Piece, count: int) -> list[range]:
    """The body's blocks in `count` stages of about the same number of parameters, with one block or more."""
    sizes = [sum(value.numel() for value in block.parameters()) for block in body.own_blocks]
    sizes[-1] += sum(value.numel() for _, module in body.top for value in module.parameters())
    ends, first = np.cumsum(sizes), body.blocks.start
    bounds = [0]
    for stage in range(1, count):
        nearest = int(np.abs(ends - ends[-1] * stage / count).argmin()) + 1
        bounds.append(min(max(nearest, bounds[-1] + 1), len(sizes) - count + stage))
    bounds.append(len(sizes))
    return [range(first + begin, first + end) for begin, end in pairwise(bounds)]


class Stages:
    """Computes the body over all ranks, which call it at the same time with the same inputs."""

    def __init__(self, whole: Piece, own: Piece, stages: list[range], ranks: Ranks) -> None:
        self.ranks, self.own, self.whole = ranks, own, whole
        self.trained = trainable(whole)
        self._rank_of = {name: _rank_of(whole, name, stages) for name in self.trained}
        _put(whole, own)
        self.trained = trainable(whole)
        for name, value in self.trained.items():
            if 0 in value.stride():  # a newly initialised module of another rank
                value.data = torch.empty(value.shape, dtype=value.dtype)
            ranks.fill(value, self._rank_of[name])

    def __call__(
        self, hidden_BTD: Tensor, context: Mapping[str, Tensor], labels: Tensor | None
    ) -> "SimpleNamespace | StagedOutput":
        """The loss; the logits, too, if no gradients are recorded."""
        self.own.current_step.value = self.whole.current_step.value
        try:
            if not torch.is_grad_enabled():
                return StagedOutput(self.run(hidden_BTD, context, labels)[1], self.ranks)
            trained = [value for value in self.trained.values() if value.requires_grad]
            loss = _Staged.apply(self, hidden_BTD, context, labels, *trained)  # type: ignore[no-untyped-call]
            return SimpleNamespace(loss=loss)
        finally:
            self.own.current_step.value = None

    def run(
        self, hidden_BTD: Tensor, context: Mapping[str, Tensor], labels: Tensor | None
    ) -> tuple[Tensor, Any]:
        """This rank's input and output; the last one's is the model's own output."""
        ranks = self.ranks
        if ranks.rank:
            hidden_BTD = ranks.receive(ranks.rank - 1)
        device = torch.device(ranks.device)
        hidden_BTD = hidden_BTD.to(device)
        context = {name: tensor.to(device) for name, tensor in context.items()}
        if ranks.is_last:
            labels = labels.to(device) if labels is not None else None
            return hidden_BTD, self.own(hidden_BTD, context, labels)
        output = self.own(hidden_BTD, context)
        ranks.send(output, ranks.rank + 1)
        return hidden_BTD, output

    def gradients(self, given: Tensor, output: Tensor, grad: Tensor) -> tuple[Tensor | None, list[Tensor]]:
        """The gradients of the body's input, if it needs one, and of all trained tensors."""
        ranks, hidden_grad = self.ranks, None
        own = {name: value for name, value in trainable(self.own).items() if value.requires_grad}
        found: dict[str, Tensor] = {}
        if output.requires_grad:
            grad = grad if ranks.is_last else ranks.receive(ranks.rank + 1)
            wanted = [*([given] if given.requires_grad else []), *own.values()]
            grads = list(torch.autograd.grad(output, wanted, grad))
            hidden_grad = grads.pop(0) if given.requires_grad else None
            found = dict(zip(own, grads, strict=True))
        if ranks.rank and hidden_grad is not None:
            ranks.send(hidden_grad, ranks.rank - 1)
        return hidden_grad, self._exchanged(found)

    def _exchanged(self, own: Mapping[str, Tensor]) -> list[Tensor]:
        """The gradients of all trained tensors, each from the rank that has it."""
        grads = []
        for name, value in self.trained.items():
            if value.requires_grad:
                grad = own[name] if name in own else torch.empty_like(value)
                self.ranks.fill(grad, self._rank_of[name])
                grads.append(grad)
        return grads


class StagedOutput:
    """What the last rank computed: its loss and, when asked for on all ranks, its logits."""

    def __init__(self, output: Any, ranks: Ranks) -> None:
        self._output, self._ranks = output, ranks
        last = ranks.size - 1
        self.loss = ranks.spread(output.loss if ranks.is_last else None, last)

    @property
    def logits(self) -> Tensor:
        """The logits of the last rank."""
        ranks = self._ranks
        return ranks.spread(self._output.logits if ranks.is_last else None, ranks.size - 1)


class _Staged(torch.autograd.Function):
    """The loss of the body as a function of its input and its trained tensors."""

    @staticmethod
    def forward(
        ctx: Any,
        stages: Stages,
        hidden_BTD: Tensor,
        context: Mapping[str, Tensor],
        labels: Tensor,
        *trained: Tensor,
    ) -> Tensor:
        hidden_BTD = hidden_BTD.detach().requires_grad_(ctx.needs_input_grad[1])
        with torch.enable_grad():
            given, output = stages.run(hidden_BTD, context, labels)
        ctx.stages = stages
        ctx.part = given, output.loss if stages.ranks.is_last else output
        ranks = stages.ranks
        return ranks.spread(output.loss.detach() if ranks.is_last else None, ranks.size - 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        hidden_grad, grads = ctx.stages.gradients(*ctx.part, grad.to(ctx.stages.ranks.device))
        if ctx.needs_input_grad[1]:
            hidden_grad = ctx.stages.ranks.spread(hidden_grad if ctx.stages.ranks.rank == 0 else None, 0)
        return None, hidden_grad, None, None, *grads


def _rank_of(whole: Piece, name: str, stages: list[range]) -> int:
    """The rank with the trained tensor of this name: that of its block, or the last one."""
    index = block_index(whole.family, name)
    return next((rank for rank, blocks in enumerate(stages) if index in blocks), len(stages) - 1)


def _put(whole: Piece, own: Piece) -> None:
    """Makes the own piece's trainable parameters those of the whole body, too."""
    for name, value in own.model.named_parameters():
        if value.requires_grad:
            path, _, leaf = name.rpartition(".")
            module: nn.Module = whole.model.get_submodule(path)
            module._parameters[leaf] = value
