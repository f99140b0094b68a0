"""Methods whose client runs a backward pass, each as a plain PyTorch loop: one client, no messages.

Every loop is a generator of rounds (see `loop_inputs`) with the mathematics of the method of the same name.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.bench.baselines.loop_inputs import LoopInputs, Rounds
from splitfl.adapters.inject import overwrite, trainable
from splitfl.data.batch import Batch
from splitfl.methods.fsl_sage import SageSettings
from splitfl.models.cut import Piece


def sfl(inputs: LoopInputs) -> Rounds:
    """`sfl-v2` and `sfl-v1`, which are equal for one client."""
    head, body = inputs.head(), inputs.body()
    of_head, of_body = inputs.adamw(head), inputs.adamw(body, of_body=1)
    for _, batches in inputs.rounds():
        losses = []
        for batch in batches:
            hidden_BTD = head(batch.inputs)
            at_cut = hidden_BTD.detach().requires_grad_()
            losses.append(_body_step(body, at_cut, batch, of_body))
            hidden_BTD.backward(at_cut.grad)
            _step(of_head)
        yield losses


def frozen(inputs: LoopInputs) -> Rounds:
    """Each sample passes the head once; the benchmark's texts have equal lengths."""
    head, body = inputs.head(), inputs.body()
    of_body = inputs.adamw(body, of_body=1)
    known: dict[int, Tensor] = {}
    for _, batches in inputs.rounds():
        losses = []
        for batch in batches:
            ids = batch.ids_B.tolist()
            if not known.keys() >= set(ids):
                with torch.no_grad():
                    known |= dict(zip(ids, head(batch.inputs), strict=True))
            losses.append(_body_step(body, torch.stack([known[one] for one in ids]), batch, of_body))
        yield losses


def ushape(inputs: LoopInputs) -> Rounds:
    """Head and tail share one optimiser, the body has its inputs."""
    tail, head, body = inputs.tail(), inputs.head(), inputs.body()
    of_client, of_body = inputs.adamw(head, tail, of_body=1), inputs.adamw(body, of_body=1)
    for _, batches in inputs.rounds():
        losses = []
        for batch in batches:
            hidden_BTD = head(batch.inputs)
            lower_BTD = hidden_BTD.detach().requires_grad_()
            output_BTD = body(lower_BTD)
            upper_BTD = output_BTD.detach().requires_grad_()
            loss = tail(upper_BTD, {}, batch.labels).loss
            loss.backward()
            output_BTD.backward(upper_BTD.grad)
            _step(of_body)
            hidden_BTD.backward(lower_BTD.grad)
            _step(of_client)
            losses.append(loss.item())
        yield losses


def cse_fsl(inputs: LoopInputs) -> Rounds:
    """Head and auxiliary train on the auxiliary's loss, the body on the head's activations."""
    auxiliary, head, body = inputs.auxiliary(), inputs.head(), inputs.body()
    of_client, of_body = inputs.adamw(head, auxiliary, of_body=1), inputs.adamw(body, of_body=1)
    for _, batches in inputs.rounds():
        losses = []
        for batch in batches:
            hidden_BTD = head(batch.inputs)
            auxiliary(hidden_BTD, {}, batch.labels).loss.backward()
            _step(of_client)
            losses.append(_body_step(body, hidden_BTD.detach(), batch, of_body))
        yield losses


def fsl_sage(inputs: LoopInputs) -> Rounds:
    """`cse_fsl` with an auxiliary that is aligned with the body before each round but the first."""
    auxiliary, head, body = inputs.auxiliary(), inputs.head(), inputs.body()
    of_head, of_body = inputs.adamw(head), inputs.adamw(body, of_body=1)
    uploads: list[tuple[Tensor, Batch]] = []
    for round_index, batches in inputs.rounds():
        if round_index == 1:
            known = trainable(body)
            shared = {name: known[name] for name in trainable(auxiliary) if name in known}
            overwrite(trainable(auxiliary), shared)
        if round_index:
            _align(inputs, auxiliary, body, uploads)
        for value in trainable(auxiliary).values():
            value.grad = None
        losses = []
        for batch in batches:
            hidden_BTD = head(batch.inputs)
            loss = auxiliary(hidden_BTD, {}, batch.labels).loss
            grads = torch.autograd.grad(loss, of_head.param_groups[0]["params"])
            _step(of_head, grads)
            losses.append(_body_step(body, hidden_BTD.detach(), batch, of_body))
            uploads = [*uploads, (hidden_BTD.detach(), batch)][
                -inputs.config.method.of(SageSettings).align_batches :
            ]
        yield losses


def fedlora(inputs: LoopInputs) -> Rounds:
    """The whole model, unsplit."""
    whole = inputs.whole()
    yield from _whole_steps(inputs, whole, inputs.adamw(whole))


def data_parallel(inputs: LoopInputs) -> Rounds:
    """As `fedlora` with the betas of pretraining."""
    whole = inputs.whole()
    yield from _whole_steps(inputs, whole, inputs.adamw(whole, betas=(0.9, 0.95)))


def diloco(inputs: LoopInputs) -> Rounds:
    """Rounds of `data_parallel`, after each of which torch's SGD steps on the outer gradient."""
    whole = inputs.whole()
    held = list(trainable(whole).values())
    outer = [torch.nn.Parameter(value.detach().clone()) for value in held]
    optimiser = torch.optim.SGD(outer, lr=0.7, momentum=0.9, nesterov=True)
    for losses in _whole_steps(inputs, whole, inputs.adamw(whole, betas=(0.9, 0.95))):
        with torch.no_grad():
            _step(optimiser, [before - after for before, after in zip(outer, held, strict=True)])
            for value, new in zip(held, outer, strict=True):
                value.copy_(new)
        yield losses


def _whole_steps(inputs: LoopInputs, whole: Piece, optimiser: torch.optim.Optimizer) -> Rounds:
    """Steps of the unsplit model, round by round."""
    for _, batches in inputs.rounds():
        losses = []
        for batch in batches:
            loss = whole(batch.inputs, {}, batch.labels).loss
            loss.backward()
            _step(optimiser)
            losses.append(loss.item())
        yield losses


def _body_step(body: Piece, hidden_BTD: Tensor, batch: Batch, optimiser: torch.optim.Optimizer) -> float:
    """One step of the body; returns the loss and sets the hidden state's gradient if it requires one."""
    loss = body(hidden_BTD, {}, batch.labels).loss
    loss.backward()
    _step(optimiser)
    return float(loss.item())


def _step(optimiser: torch.optim.Optimizer, grads: Sequence[Tensor] = ()) -> None:
    parameters = chain.from_iterable(group["params"] for group in optimiser.param_groups)
    for parameter, grad in zip(parameters, grads, strict=False):
        parameter.grad = grad
    optimiser.step()
    optimiser.zero_grad()


def _align(
    inputs: LoopInputs, auxiliary: Piece, body: Piece, uploads: Sequence[tuple[Tensor, Batch]]
) -> None:
    """Fits the auxiliary's gradients to the body's: FSL-SAGE's equation 7, relative squared error."""
    parameters = list(trainable(auxiliary).values())
    optimiser = torch.optim.AdamW(parameters, lr=inputs.config.train.body_lr, weight_decay=0.0)
    true_BTDs = []
    for hidden_BTD, batch in uploads:
        at_cut = hidden_BTD.detach().requires_grad_()
        loss = body(at_cut, {}, batch.labels).loss
        true_BTDs.append(torch.autograd.grad(loss, at_cut)[0])
    for _ in range(inputs.config.method.of(SageSettings).align_passes):
        for (hidden_BTD, batch), true_BTD in zip(uploads, true_BTDs, strict=True):
            at_cut = hidden_BTD.detach().requires_grad_()
            with sdpa_kernel(SDPBackend.MATH):
                loss = auxiliary(at_cut, {}, batch.labels).loss
                (estimate_BTD,) = torch.autograd.grad(loss, at_cut, create_graph=True)
                error = (estimate_BTD - true_BTD).square().sum() / true_BTD.square().sum()
                grads = torch.autograd.grad(error, parameters)
            _step(optimiser, grads)
