"""A step of the body on the activations of several clients, as on one batch.

The batch of the clients, up to `method.server_batch` of them, has their samples in service order, padded
on the right. With the mean loss L_i over the n_i labels of client i (see `label_counts`), and n the sum of
n_i, its loss is

    L = sum over i of (n_i / n) L_i

that of the unsplit model on this batch, and the body takes one step on the gradient of L, as SplitLoRA's
server does (Lin et al., arXiv 2407.00952). Client i, with the hidden states h_i, receives the gradient of its
own mean loss, whatever else is in the batch:

    (n / n_i) dL/dh_i = dL_i/dh_i

so that its learning rate and `train.clip_grad_norm` keep their meaning, and the mean of the heads'
gradients, weighted by n_i, is the gradient of L. Through batch norms that are trained, h_i also changes the
other clients' losses, and dL/dh_i contains their gradients.
"""

# B batch, T tokens, D hidden

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.core.messages import Activation
from splitfl.methods.parts.body_batch import BodyBatch, joined
from splitfl.methods.parts.label_counts import label_counts
from splitfl.methods.parts.method import ServerReply, Turn
from splitfl.methods.parts.server_model import BodyStep, ServerModel, reply_to
from splitfl.models.token_rows import unpack
from splitfl.models.training_step import JointStep, TrainingStep


@dataclass(frozen=True, kw_only=True, eq=False)
class ClientStep:
    """One client's part of a step of the body.

    `loss` is the mean loss of the whole batch, `flops` the client's part of its FLOPs, by samples.
    `hidden_grad` (B, T, D) is the gradient of the client's own mean loss, None if not requested. `change` is
    the whole step, which changes the body, with the last client of the batch, else None.
    """

    loss: float
    flops: float
    hidden_grad: Tensor | None
    change: BodyStep | None


def client_steps(
    body: ServerModel,
    turns: Sequence[Turn],
    batches: Sequence[BodyBatch],
    steps: Sequence[TrainingStep],
    *,
    wants_hidden_grad: bool,
) -> list[ClientStep]:
    """One step of the body on the batches of these turns; changes no state. See `ServerModel.compute`."""
    is_one = len(batches) == 1
    batch = batches[0] if is_one else joined(batches)
    step = body.compute(
        turns[-1].position,
        batch.hidden_BTD,
        batch.context,
        batch.labels,
        steps[0] if is_one else JointStep(steps=steps),
        wants_hidden_grad=wants_hidden_grad,
    )
    if is_one:
        return [ClientStep(loss=step.loss, flops=step.flops, hidden_grad=step.hidden_grad, change=step)]
    samples = sum(len(one.labels) for one in batches)
    grads = _own_grads(batches, step.hidden_grad, body.piece.kind)
    return [
        ClientStep(
            loss=step.loss,
            flops=step.flops * len(one.labels) / samples,
            hidden_grad=grad,
            change=step if one is batches[-1] else None,
        )
        for one, grad in zip(batches, grads, strict=True)
    ]


def answer_activations(
    body: ServerModel,
    turns: Sequence[Turn],
    messages: Sequence[Activation],
    *,
    wants_gradient: bool = True,
    interval: int = 1,
) -> list[ServerReply]:
    """The body's step on clients' activations, each of the first of `interval` steps of its client.

    A reply is the gradient at the cut, or Done unless the client `wants_gradient`.
    """
    firsts = [(turn.lap - 1) * interval for turn in turns]
    steps = [
        body.training_step(turn, message.ids_B, first)
        for turn, message, first in zip(turns, messages, firsts, strict=True)
    ]
    batches = [_unpacked(body, message) for message in messages]
    found = client_steps(body, turns, batches, steps, wants_hidden_grad=wants_gradient)
    return [
        ServerReply(
            reply=reply_to(message, own.hidden_grad),
            flops=own.flops,
            losses=(own.loss,),
            samples=len(message.ids_B),
            step=first,
            change=own.change,
        )
        for message, own, first in zip(messages, found, firsts, strict=True)
    ]


def _unpacked(body: ServerModel, message: Activation) -> BodyBatch:
    if message.hidden is None or message.labels is None:
        raise WireError("a step of the body needs activations with hidden states and labels")
    hidden_BTD = unpack(message.hidden, message.context.get("mask")).to(body.piece.model.device)
    return BodyBatch(hidden_BTD=hidden_BTD, context=message.context, labels=message.labels)


def _own_grads(batches: Sequence[BodyBatch], grad_BTD: Tensor | None, kind: str) -> list[Tensor | None]:
    """Each client's rows of the joint gradient, times n / n_i, without the padding of the joint batch."""
    if grad_BTD is None:
        return [None] * len(batches)
    counts = [float(label_counts(one.labels, kind).sum()) for one in batches]
    rows = torch.split(grad_BTD, [len(one.labels) for one in batches])
    return [
        own_BTD[:, : one.hidden_BTD.shape[1]] * (sum(counts) / max(count, 1.0))
        for one, own_BTD, count in zip(batches, rows, counts, strict=True)
    ]
