"""How a client learns in a round, by whichever method it is told; see `planned`."""

# B batch, T tokens, D hidden, N real tokens

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from splitfl.core.messages import Gradient, Plan, Reply
from splitfl.data.batch import Batch
from splitfl.methods.cse_fsl import Lesson
from splitfl.methods.hybrid import hidden_of
from splitfl.methods.parts.client_trainer import ClientTrainer, pack, unpack
from splitfl.methods.parts.forward_mode import Function
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters
from splitfl.methods.parts.split_pass import SplitPass
from splitfl.methods.parts.zeroth_order_client import ZerothOrderClient


class LocalUpdate(Protocol):
    """How a client learns in a round, by one method and with its head up to one cut."""

    upload_interval: int
    """The first batch of so many goes up."""

    def begins(self, plan: Plan, round_index: int) -> None:
        """A round begins."""

    def shows(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """The hidden state (N, D) that goes up, without a graph."""

    def hears(self, reply: Reply, context: Mapping[str, Tensor]) -> bool:
        """Learns from what came back; whether anything was learnt from this batch."""


class FrozenHead:
    """As `frozen`: forward alone."""

    upload_interval = 1

    def __init__(self, passes: SplitPass) -> None:
        self._passes = passes

    def begins(self, plan: Plan, round_index: int) -> None:
        """See Way."""

    def shows(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """See Way."""
        return pack(self._passes.forth(batch, comes_back=False), context.get("mask"))

    def hears(self, reply: Reply, context: Mapping[str, Tensor]) -> bool:
        """See Way."""
        return False


class ByGradient:
    """As `sfl-v2`: forth, and back with the gradient that comes down."""

    upload_interval = 1

    def __init__(self, learner: ClientTrainer, passes: SplitPass) -> None:
        self._learner = learner
        self._passes = passes

    def begins(self, plan: Plan, round_index: int) -> None:
        """See Way."""

    def shows(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """See Way."""
        return pack(self._passes.forth(batch), context.get("mask"))

    def hears(self, reply: Reply, context: Mapping[str, Tensor]) -> bool:
        """See Way."""
        if not isinstance(reply, Gradient):
            self._passes.forget()
            return False
        self._passes.back(unpack(reply.grad.to(self._learner.piece.model.device), context.get("mask")))
        self._learner.step()
        return True


class ByAuxiliary:
    """As `cse-fsl`: from an auxiliary's loss, all by itself."""

    def __init__(self, learn: Lesson, upload_interval: int) -> None:
        self._learn = learn
        self.upload_interval = upload_interval

    def begins(self, plan: Plan, round_index: int) -> None:
        """See Way."""

    def shows(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """See Way."""
        return pack(self._learn(batch, context, round_index, step), context.get("mask"))

    def hears(self, reply: Reply, context: Mapping[str, Tensor]) -> bool:
        """See LocalUpdate: whatever came."""
        return True


class ZerothOrder:
    """As `hybrid`: forward passes alone, by slopes of the gradient that comes down; the head is sent in."""

    upload_interval = 1

    def __init__(self, learner: ClientTrainer, walker: ZerothOrderClient, walk: PerturbedParameters) -> None:
        self._learner = learner
        self._walker = walker
        self._walk = walk
        self._shown: tuple[Function, Tensor, torch.Size] | None = None

    def begins(self, plan: Plan, round_index: int) -> None:
        """See Way."""
        self._walk.rank = plan.rank
        self._walker.start(round_index)

    def shows(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """See Way."""
        forward = hidden_of(batch, context)
        hidden = self._walker.run(forward, batch.shape_BT)
        self._shown = forward, hidden, batch.shape_BT
        return hidden

    def hears(self, reply: Reply, context: Mapping[str, Tensor]) -> bool:
        """See Way."""
        assert self._shown is not None
        forward, hidden, shape_BT = self._shown
        if isinstance(reply, Gradient):
            self._walker.learn(forward, reply.grad.to(hidden.device), hidden, shape_BT)
        else:
            self._walker.follow(None)
        self._learner.flops += self._walker.take_flops()
        return isinstance(reply, Gradient)
