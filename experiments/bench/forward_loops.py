"""Zeroth-order and forward-mode methods, each as a plain PyTorch loop: one client, no messages.

Every loop is a generator of rounds (see `loop_inputs`) with the mathematics of the method of the same name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from channel.core.rng import stream
from experiments.bench.loop_inputs import LoopInputs, Perturbations, Rounds
from splitfl.adapters.inject import trainable
from splitfl.data.batch import Batch
from splitfl.methods.fedkseed import FedkseedSettings
from splitfl.methods.hiso import HisoSettings
from splitfl.methods.hosl import HoslSettings
from splitfl.methods.mu_splitfed import MuSettings
from splitfl.methods.parts.zeroth_order_client import Estimate
from splitfl.methods.spry import SprySettings
from splitfl.models.cut import Piece

Evaluate = Callable[[], Tensor]
"""Evaluates a function at the current parameters."""


def hybrid(inputs: LoopInputs) -> Rounds:
    """Derivatives of <lambda, hidden state> along P perturbations per step; the body by backpropagation."""
    head, body, settings = inputs.head(), inputs.body(), inputs.config.method.of(Estimate)
    of_body, noise = inputs.adamw(body, of_body=1), inputs.perturbations(head)
    for at, batches in inputs.rounds():
        losses = []
        for step, batch in enumerate(batches):
            evaluate = _forward(head, batch)
            base = evaluate()
            loss, grad_BTD = _learn(body, base, batch, of_body)
            derivatives = []
            for p in range(settings.perturbations):
                change = (
                    _evaluate_at(noise, noise.draw(0, at, step, p), settings.mu, evaluate) - base
                ) / settings.mu
                derivatives.append((change * grad_BTD).sum(dtype=torch.float64))
            _update(inputs, noise, at, step, torch.stack(derivatives).float())
            losses.append(loss)
        yield losses


def hosl(inputs: LoopInputs) -> Rounds:
    """Directional derivatives of the body's loss by central differences, before the body's step."""
    head, body, settings = inputs.head(), inputs.body(), inputs.config.method.of(HoslSettings)
    of_body, noise = inputs.adamw(body, of_body=1), inputs.perturbations(head)
    for at, batches in inputs.rounds():
        losses = []
        for step, batch in enumerate(batches):
            evaluate, derivatives = _forward(head, batch), []
            base = evaluate()
            for p in range(settings.perturbations):
                u = noise.draw(0, at, step, p)
                sides = (_evaluate_at(noise, u, scale, evaluate) for scale in (settings.mu, -settings.mu))
                with torch.no_grad():
                    above, below = (body(side, {}, batch.labels).loss.double() for side in sides)
                derivatives.append((above - below) / (2 * settings.mu))
            losses.append(_learn(body, base, batch, of_body, wants_grad=False)[0])
            _update(inputs, noise, at, step, torch.stack(derivatives).float())
        yield losses


def heron(inputs: LoopInputs) -> Rounds:
    """Directional derivatives of the auxiliary's loss; head and auxiliary are perturbed jointly."""
    auxiliary, head, body = inputs.auxiliary(), inputs.head(), inputs.body()
    settings = inputs.config.method.of(Estimate)
    of_body, noise = inputs.adamw(body, of_body=1), inputs.perturbations(head, auxiliary)
    for at, batches in inputs.rounds():
        losses = []
        for step, batch in enumerate(batches):

            def both(batch: Batch = batch) -> tuple[Tensor, Tensor]:
                with torch.no_grad():
                    hidden_BTD = head(batch.inputs)
                    return hidden_BTD, auxiliary(hidden_BTD, {}, batch.labels).loss

            hidden_BTD, base = both()
            derivatives = [
                (_evaluate_at(noise, noise.draw(0, at, step, p), settings.mu, lambda: both()[1]) - base)
                / settings.mu
                for p in range(settings.perturbations)
            ]
            _update(inputs, noise, at, step, torch.stack(derivatives))
            losses.append(_learn(body, hidden_BTD, batch, of_body, wants_grad=False)[0])
        yield losses


def mu_splitfed(inputs: LoopInputs) -> Rounds:
    """The body's zeroth-order steps, then the derivative of its loss along the client's perturbation."""
    head, body, train = inputs.head(), inputs.body(), inputs.config.train
    settings = inputs.config.method.of(MuSettings)
    of_head, of_body = inputs.perturbations(head), inputs.perturbations(body)
    for at, batches in inputs.rounds():
        losses = []
        for step, batch in enumerate(batches):
            evaluate, u = _forward(head, batch), of_head.draw(0, at, step, 0)
            base = evaluate()
            sides = [_evaluate_at(of_head, u, scale, evaluate) for scale in (settings.mu, -settings.mu)]
            losses.append(_loss(body, base, batch)().item())
            for server_step in range(settings.server_steps):
                v = of_body.draw("server", 0, at, step + 1, server_step)
                of_body.move(v, -train.body_lr * _central(of_body, v, settings.mu, _loss(body, base, batch)))
            above, below = (_loss(body, side, batch)().double() for side in sides)
            _update(inputs, of_head, at, step, ((above - below) / (2 * settings.mu)).float().view(1))
        yield losses


def decomfl(inputs: LoopInputs) -> Rounds:
    """Directional derivatives of the whole model's loss."""
    whole = inputs.whole()
    noise = inputs.perturbations(whole)
    for at, batches in inputs.rounds():
        yield _zeroth_order_round(inputs, whole, noise, at, batches)[0]


def hiso(inputs: LoopInputs) -> Rounds:
    """`decomfl` with perturbations scaled by a curvature estimate that is updated after each round."""
    whole, smooth = inputs.whole(), inputs.config.method.of(HisoSettings).hessian_smooth
    plain = inputs.perturbations(whole)
    curvature = [torch.ones_like(tensor) for tensor in plain.tensors]
    noise = CurvatureScaled(seed=plain.seed, tensors=plain.tensors, curvature=curvature)
    for at, batches in inputs.rounds():
        losses, derivatives_SP = _zeroth_order_round(inputs, whole, noise, at, batches)
        estimate = [torch.zeros_like(tensor) for tensor in plain.tensors]
        for p, derivative in enumerate(derivatives_SP[-1].tolist()):
            for total, u in zip(estimate, noise.draw(0, at, len(batches) - 1, p), strict=True):
                total.add_(u * (derivative / len(derivatives_SP[-1])))
        for curvature_tensor, g in zip(curvature, estimate, strict=True):
            curvature_tensor.mul_(smooth).add_(g.square() * (1 - smooth))
        yield losses


def fedkseed(inputs: LoopInputs) -> Rounds:
    """`decomfl` with a pool of seeds; after a round the model is the start plus the pool's summed updates."""
    whole, settings, lr = (
        inputs.whole(),
        inputs.config.method.of(FedkseedSettings),
        inputs.config.train.head_lr,
    )
    plain = inputs.perturbations(whole)
    noise = Pooled(seed=plain.seed, tensors=plain.tensors, pool=settings.pool)
    start, sums = noise.copy(), torch.zeros(settings.pool, dtype=torch.float64)
    for at, batches in inputs.rounds():
        losses, derivatives_SP = _zeroth_order_round(inputs, whole, noise, at, batches)
        for step, derivatives_P in enumerate(derivatives_SP):
            for p, derivative in enumerate(derivatives_P.tolist()):
                sums[noise.member(0, at, step, p)] += derivative / settings.estimate.perturbations
        noise.put(start)
        for member, total in enumerate(sums.float().tolist()):
            if total:
                noise.move(plain.draw("pool", member), -lr * total)
        yield losses


def spry(inputs: LoopInputs) -> Rounds:
    """Forward-mode differentiation; the single client trains all adapters."""
    whole, perturbations = inputs.whole(), inputs.config.method.of(SprySettings).perturbations
    optimiser, noise = inputs.adamw(whole), inputs.perturbations(whole)
    by_identity = {id(value): path for path, value in whole.named_parameters()}
    paths = [by_identity[id(value)] for value in trainable(whole).values()]
    for at, batches in inputs.rounds():
        losses = []
        for step, batch in enumerate(batches):

            def loss(values: dict[str, Tensor], batch: Batch = batch) -> Tensor:
                found = functional_call(whole, values, (batch.inputs, {}, batch.labels)).loss
                assert isinstance(found, Tensor)
                return found

            grads, start = [torch.zeros_like(tensor) for tensor in noise.tensors], 0.0
            for p in range(perturbations):
                u = noise.draw(0, at, step, p)
                values, moves = dict(zip(paths, noise.tensors, strict=True)), dict(zip(paths, u, strict=True))
                with torch.no_grad():
                    both = jvp(loss, (values,), (moves,))
                start = both[0].item()
                for grad, one in zip(grads, u, strict=True):
                    grad.add_(one, alpha=both[1].item() / perturbations)
            for value, grad in zip(trainable(whole).values(), grads, strict=True):
                value.grad = grad
            optimiser.step()
            losses.append(start)
        yield losses


@dataclass(frozen=True, kw_only=True)
class CurvatureScaled(Perturbations):
    """Perturbations divided by the square root of a diagonal curvature."""

    curvature: Sequence[Tensor]

    def draw(self, *name: str | int) -> list[Tensor]:
        """The perturbation u / sqrt(H) of this name, one tensor per parameter."""
        return [
            u / curvature_tensor.sqrt()
            for u, curvature_tensor in zip(super().draw(*name), self.curvature, strict=True)
        ]

    def move(self, u: Sequence[Tensor], scale: float) -> None:
        """Adds scale * u to the parameters in place."""
        for tensor, one in zip(self.tensors, u, strict=True):
            tensor.add_(one * scale)


@dataclass(frozen=True, kw_only=True)
class Pooled(Perturbations):
    """Perturbations drawn from a pool of seeds."""

    pool: int

    def member(self, *name: str | int) -> int:
        """The pool index that this name maps to."""
        return int(stream(self.seed, "pool", *name).integers(self.pool))

    def draw(self, *name: str | int) -> list[Tensor]:
        """The pool's perturbation that this name maps to."""
        return super().draw("pool", self.member(*name))


def _zeroth_order_round(
    inputs: LoopInputs, whole: Piece, noise: Perturbations, at: int, batches: Sequence[Batch]
) -> tuple[list[float], list[Tensor]]:
    """A round of zeroth-order steps: the losses, and each step's directional derivatives (P,)."""
    settings, losses, derivatives_SP = inputs.config.method.of(Estimate), [], []
    for step, batch in enumerate(batches):
        evaluate = _loss(whole, batch.inputs, batch)
        base = evaluate()
        derivatives = [
            (_evaluate_at(noise, noise.draw(0, at, step, p), settings.mu, evaluate) - base) / settings.mu
            for p in range(settings.perturbations)
        ]
        derivatives_SP.append(torch.stack(derivatives))
        _update(inputs, noise, at, step, derivatives_SP[-1])
        losses.append(base.item())
    return losses, derivatives_SP


def _update(inputs: LoopInputs, noise: Perturbations, at: int, step: int, derivatives_P: Tensor) -> None:
    for p, derivative in enumerate(derivatives_P.tolist()):
        noise.move(noise.draw(0, at, step, p), -inputs.config.train.head_lr / len(derivatives_P) * derivative)


def _evaluate_at(noise: Perturbations, u: Sequence[Tensor], scale: float, evaluate: Evaluate) -> Tensor:
    start = noise.copy()
    noise.move(u, scale)
    value = evaluate()
    noise.put(start)
    return value


def _central(noise: Perturbations, u: Sequence[Tensor], mu: float, evaluate: Evaluate) -> float:
    above, below = _evaluate_at(noise, u, mu, evaluate), _evaluate_at(noise, u, -mu, evaluate)
    return float((above - below) / (2 * mu))


def _forward(head: Piece, batch: Batch) -> Evaluate:
    def evaluate() -> Tensor:
        with torch.no_grad():
            found = head(batch.inputs)
        assert isinstance(found, Tensor)
        return found

    return evaluate


def _loss(piece: Piece, inputs: Any, batch: Batch) -> Evaluate:
    def evaluate() -> Tensor:
        with torch.no_grad():
            found = piece(inputs, {}, batch.labels).loss
        assert isinstance(found, Tensor)
        return found

    return evaluate


def _learn(
    body: Piece,
    hidden_BTD: Tensor,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    *,
    wants_grad: bool = True,
) -> tuple[float, Tensor]:
    """One step of the body: its loss, and the gradient at the cut if `wants_grad`."""
    at_cut = hidden_BTD.detach().requires_grad_(wants_grad)
    loss = body(at_cut, {}, batch.labels).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.item()), at_cut if at_cut.grad is None else at_cut.grad
