"""Methods whose client goes the way back, each as a loop of torch by hand: one client, no messages.

Every loop is a generator of rounds; see `own`. The mathematics is that of the method of the same name.
"""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from experiments.bench.own import Own, Rounds
from splitfl.adapters.inject import overwrite, trainable
from splitfl.data.batch import Batch
from splitfl.methods.fsl_sage import SageSettings
from splitfl.models.cut import Piece


def sfl(own: Own) -> Rounds:
    """`sfl-v2`, and `sfl-v1`, whose mean over the bodies of one client is that client's."""
    head, body = own.head(), own.body()
    of_head, of_body = own.adamw(head), own.adamw(body, of_body=1)
    for _, batches in own.rounds():
        losses = []
        for batch in batches:
            hidden_BTD = head(batch.inputs)
            at_cut = hidden_BTD.detach().requires_grad_()
            losses.append(_descend(body, at_cut, batch, of_body))
            hidden_BTD.backward(at_cut.grad)
            _step(of_head)
        yield losses


def frozen(own: Own) -> Rounds:
    """Each sample goes through the head once; all texts are of one length here."""
    head, body = own.head(), own.body()
    of_body = own.adamw(body, of_body=1)
    known: dict[int, Tensor] = {}
    for _, batches in own.rounds():
        losses = []
        for batch in batches:
            ids = batch.ids_B.tolist()
            if not known.keys() >= set(ids):
                with torch.no_grad():
                    known |= dict(zip(ids, head(batch.inputs), strict=True))
            losses.append(_descend(body, torch.stack([known[one] for one in ids]), batch, of_body))
        yield losses


def ushape(own: Own) -> Rounds:
    """Head and tail learn with one optimiser, the body between them with its own."""
    tail, head, body = own.tail(), own.head(), own.body()
    of_client, of_body = own.adamw(head, tail, of_body=1), own.adamw(body, of_body=1)
    for _, batches in own.rounds():
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


def cse_fsl(own: Own) -> Rounds:
    """Head and auxiliary learn from the auxiliary's loss, the body from what it is shown."""
    auxiliary, head, body = own.auxiliary(), own.head(), own.body()
    of_client, of_body = own.adamw(head, auxiliary, of_body=1), own.adamw(body, of_body=1)
    for _, batches in own.rounds():
        losses = []
        for batch in batches:
            hidden_BTD = head(batch.inputs)
            auxiliary(hidden_BTD, {}, batch.labels).loss.backward()
            _step(of_client)
            losses.append(_descend(body, hidden_BTD.detach(), batch, of_body))
        yield losses


def fsl_sage(own: Own) -> Rounds:
    """As `cse_fsl`; as each round but the first begins the auxiliary is aligned, at first from the body."""
    auxiliary, head, body = own.auxiliary(), own.head(), own.body()
    of_head, of_body = own.adamw(head), own.adamw(body, of_body=1)
    uploads: list[tuple[Tensor, Batch]] = []
    for round_index, batches in own.rounds():
        if round_index == 1:
            known = trainable(body)
            shared = {name: known[name] for name in trainable(auxiliary) if name in known}
            overwrite(trainable(auxiliary), shared)
        if round_index:
            _align(own, auxiliary, body, uploads)
        for value in trainable(auxiliary).values():
            value.grad = None
        losses = []
        for batch in batches:
            hidden_BTD = head(batch.inputs)
            loss = auxiliary(hidden_BTD, {}, batch.labels).loss
            grads = torch.autograd.grad(loss, of_head.param_groups[0]["params"])
            _step(of_head, grads)
            losses.append(_descend(body, hidden_BTD.detach(), batch, of_body))
            uploads = [*uploads, (hidden_BTD.detach(), batch)][
                -own.config.method.of(SageSettings).align_batches :
            ]
        yield losses


def fedlora(own: Own) -> Rounds:
    """The whole model by itself."""
    whole = own.whole()
    optimiser = own.adamw(whole)
    for _, batches in own.rounds():
        losses = []
        for batch in batches:
            loss = whole(batch.inputs, {}, batch.labels).loss
            loss.backward()
            _step(optimiser)
            losses.append(loss.item())
        yield losses


def _descend(body: Piece, hidden_BTD: Tensor, batch: Batch, optimiser: torch.optim.Optimizer) -> float:
    """One step of the body; leaves the hidden state's gradient where it wants one."""
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


def _align(own: Own, auxiliary: Piece, body: Piece, uploads: Sequence[tuple[Tensor, Batch]]) -> None:
    """Towards the body's gradients: FSL-SAGE's equation 7, the error relative to the true one."""
    parameters = list(trainable(auxiliary).values())
    optimiser = torch.optim.AdamW(parameters, lr=own.config.train.body_lr, weight_decay=0.0)
    true_BTDs = []
    for hidden_BTD, batch in uploads:
        at_cut = hidden_BTD.detach().requires_grad_()
        loss = body(at_cut, {}, batch.labels).loss
        true_BTDs.append(torch.autograd.grad(loss, at_cut)[0])
    for _ in range(own.config.method.of(SageSettings).align_passes):
        for (hidden_BTD, batch), true_BTD in zip(uploads, true_BTDs, strict=True):
            at_cut = hidden_BTD.detach().requires_grad_()
            with sdpa_kernel(SDPBackend.MATH):
                loss = auxiliary(at_cut, {}, batch.labels).loss
                (estimate_BTD,) = torch.autograd.grad(loss, at_cut, create_graph=True)
                error = (estimate_BTD - true_BTD).square().sum() / true_BTD.square().sum()
                grads = torch.autograd.grad(error, parameters)
            _step(optimiser, grads)
