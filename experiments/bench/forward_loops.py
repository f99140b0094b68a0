"""Methods whose client only goes forward, each as a loop of torch by hand: one client, no messages.

Every loop is a generator of rounds; see `own`. The mathematics is that of the method of the same name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from channel.core.rng import stream
from experiments.bench.own import Own, Rounds, Signs
from splitfl.adapters.inject import trainable
from splitfl.data.batch import Batch
from splitfl.methods.fedkseed import FedkseedSettings
from splitfl.methods.hiso import HisoSettings
from splitfl.methods.hosl import HoslSettings
from splitfl.methods.mu_splitfed import MuSettings
from splitfl.methods.parts.zeroth_order_client import Estimate
from splitfl.methods.spry import SprySettings
from splitfl.models.cut import Piece

Look = Callable[[], Tensor]
"""The function where its tensors stand now."""


def hybrid(own: Own) -> Rounds:
    """Slopes of <lambda, hidden state> along P directions a step, the body by first order."""
    head, body, settings = own.head(), own.body(), own.config.method.of(Estimate)
    of_body, signs = own.adamw(body, of_body=1), own.signs(head)
    for at, batches in own.rounds():
        losses = []
        for step, batch in enumerate(batches):
            look = _forward(head, batch)
            rest = look()
            loss, grad_BTD = _learn(body, rest, batch, of_body)
            slopes = []
            for p in range(settings.perturbations):
                change = (_beside(signs, signs.draw(0, at, step, p), settings.mu, look) - rest) / settings.mu
                slopes.append((change * grad_BTD).sum(dtype=torch.float64))
            _walk(own, signs, at, step, torch.stack(slopes).float())
            losses.append(loss)
        yield losses


def hosl(own: Own) -> Rounds:
    """Slopes of the body's loss by central differences, before the body has learnt."""
    head, body, settings = own.head(), own.body(), own.config.method.of(HoslSettings)
    of_body, signs = own.adamw(body, of_body=1), own.signs(head)
    for at, batches in own.rounds():
        losses = []
        for step, batch in enumerate(batches):
            look, slopes = _forward(head, batch), []
            rest = look()
            for p in range(settings.perturbations):
                u = signs.draw(0, at, step, p)
                sides = (_beside(signs, u, scale, look) for scale in (settings.mu, -settings.mu))
                with torch.no_grad():
                    above, below = (body(side, {}, batch.labels).loss.double() for side in sides)
                slopes.append((above - below) / (2 * settings.mu))
            losses.append(_learn(body, rest, batch, of_body, wants_grad=False)[0])
            _walk(own, signs, at, step, torch.stack(slopes).float())
        yield losses


def heron(own: Own) -> Rounds:
    """Slopes of the auxiliary's loss, along which head and auxiliary move together."""
    auxiliary, head, body = own.auxiliary(), own.head(), own.body()
    settings = own.config.method.of(Estimate)
    of_body, signs = own.adamw(body, of_body=1), own.signs(head, auxiliary)
    for at, batches in own.rounds():
        losses = []
        for step, batch in enumerate(batches):

            def both(batch: Batch = batch) -> tuple[Tensor, Tensor]:
                with torch.no_grad():
                    hidden_BTD = head(batch.inputs)
                    return hidden_BTD, auxiliary(hidden_BTD, {}, batch.labels).loss

            hidden_BTD, rest = both()
            slopes = [
                (_beside(signs, signs.draw(0, at, step, p), settings.mu, lambda: both()[1]) - rest)
                / settings.mu
                for p in range(settings.perturbations)
            ]
            _walk(own, signs, at, step, torch.stack(slopes))
            losses.append(_learn(body, hidden_BTD, batch, of_body, wants_grad=False)[0])
        yield losses


def mu_splitfed(own: Own) -> Rounds:
    """The body's own steps along directions of its own, then the slope of its loss along the client's."""
    head, body, train = own.head(), own.body(), own.config.train
    settings = own.config.method.of(MuSettings)
    of_head, of_body = own.signs(head), own.signs(body)
    for at, batches in own.rounds():
        losses = []
        for step, batch in enumerate(batches):
            look, u = _forward(head, batch), of_head.draw(0, at, step, 0)
            rest = look()
            sides = [_beside(of_head, u, scale, look) for scale in (settings.mu, -settings.mu)]
            losses.append(_loss(body, rest, batch)().item())
            for own_step in range(settings.server_steps):
                v = of_body.draw("server", 0, at, step + 1, own_step)
                of_body.move(v, -train.body_lr * _central(of_body, v, settings.mu, _loss(body, rest, batch)))
            above, below = (_loss(body, side, batch)().double() for side in sides)
            _walk(own, of_head, at, step, ((above - below) / (2 * settings.mu)).float().view(1))
        yield losses


def decomfl(own: Own) -> Rounds:
    """Slopes of the whole model's loss."""
    whole = own.whole()
    signs = own.signs(whole)
    for at, batches in own.rounds():
        yield _feel(own, whole, signs, at, batches)[0]


def hiso(own: Own) -> Rounds:
    """As `decomfl`, along directions that a curvature shortens, which learns when a round has ended."""
    whole, smooth = own.whole(), own.config.method.of(HisoSettings).hessian_smooth
    plain = own.signs(whole)
    curvature = [torch.ones_like(tensor) for tensor in plain.tensors]
    signs = Shortened(seed=plain.seed, tensors=plain.tensors, curvature=curvature)
    for at, batches in own.rounds():
        losses, slopes_SP = _feel(own, whole, signs, at, batches)
        estimate = [torch.zeros_like(tensor) for tensor in plain.tensors]
        for p, slope in enumerate(slopes_SP[-1].tolist()):
            for total, u in zip(estimate, signs.draw(0, at, len(batches) - 1, p), strict=True):
                total.add_(u * (slope / len(slopes_SP[-1])))
        for held, g in zip(curvature, estimate, strict=True):
            held.mul_(smooth).add_(g.square() * (1 - smooth))
        yield losses


def fedkseed(own: Own) -> Rounds:
    """As `decomfl` along a pool of directions; after a round the model is its start and the pool's sums."""
    whole, settings, lr = own.whole(), own.config.method.of(FedkseedSettings), own.config.train.head_lr
    plain = own.signs(whole)
    signs = Pooled(seed=plain.seed, tensors=plain.tensors, pool=settings.pool)
    start, sums = signs.copy(), torch.zeros(settings.pool, dtype=torch.float64)
    for at, batches in own.rounds():
        losses, slopes_SP = _feel(own, whole, signs, at, batches)
        for step, slopes_P in enumerate(slopes_SP):
            for p, slope in enumerate(slopes_P.tolist()):
                sums[signs.member(0, at, step, p)] += slope / settings.estimate.perturbations
        signs.put(start)
        for member, total in enumerate(sums.float().tolist()):
            if total:
                signs.move(plain.draw("pool", member), -lr * total)
        yield losses


def spry(own: Own) -> Rounds:
    """Forward mode; one client has all adapters."""
    whole, perturbations = own.whole(), own.config.method.of(SprySettings).perturbations
    optimiser, signs = own.adamw(whole), own.signs(whole)
    by_identity = {id(value): path for path, value in whole.named_parameters()}
    paths = [by_identity[id(value)] for value in trainable(whole).values()]
    for at, batches in own.rounds():
        losses = []
        for step, batch in enumerate(batches):

            def loss(values: dict[str, Tensor], batch: Batch = batch) -> Tensor:
                found = functional_call(whole, values, (batch.inputs, {}, batch.labels)).loss
                assert isinstance(found, Tensor)
                return found

            grads, here = [torch.zeros_like(tensor) for tensor in signs.tensors], 0.0
            for p in range(perturbations):
                u = signs.draw(0, at, step, p)
                values, moves = dict(zip(paths, signs.tensors, strict=True)), dict(zip(paths, u, strict=True))
                with torch.no_grad():
                    both = jvp(loss, (values,), (moves,))
                here = both[0].item()
                for grad, one in zip(grads, u, strict=True):
                    grad.add_(one, alpha=both[1].item() / perturbations)
            for value, grad in zip(trainable(whole).values(), grads, strict=True):
                value.grad = grad
            optimiser.step()
            losses.append(here)
        yield losses


@dataclass(frozen=True, kw_only=True)
class Shortened(Signs):
    """Directions over the square root of a curvature."""

    curvature: Sequence[Tensor]

    def draw(self, *name: str | int) -> list[Tensor]:
        """Directions u / sqrt(H)."""
        return [u / held.sqrt() for u, held in zip(super().draw(*name), self.curvature, strict=True)]

    def move(self, u: Sequence[Tensor], scale: float) -> None:
        """Goes to theta + scale * u."""
        for tensor, one in zip(self.tensors, u, strict=True):
            tensor.add_(one * scale)


@dataclass(frozen=True, kw_only=True)
class Pooled(Signs):
    """Directions of a pool."""

    pool: int

    def member(self, *name: str | int) -> int:
        """Which of the pool a direction of this name is."""
        return int(stream(self.seed, "pool", *name).integers(self.pool))

    def draw(self, *name: str | int) -> list[Tensor]:
        """The direction that this name has in the pool."""
        return super().draw("pool", self.member(*name))


def _feel(
    own: Own, whole: Piece, signs: Signs, at: int, batches: Sequence[Batch]
) -> tuple[list[float], list[Tensor]]:
    """A round of steps down the slopes of the model's loss: the losses, and each step's slopes (P,)."""
    settings, losses, slopes_SP = own.config.method.of(Estimate), [], []
    for step, batch in enumerate(batches):
        look = _loss(whole, batch.inputs, batch)
        rest = look()
        slopes = [
            (_beside(signs, signs.draw(0, at, step, p), settings.mu, look) - rest) / settings.mu
            for p in range(settings.perturbations)
        ]
        slopes_SP.append(torch.stack(slopes))
        _walk(own, signs, at, step, slopes_SP[-1])
        losses.append(rest.item())
    return losses, slopes_SP


def _walk(own: Own, signs: Signs, at: int, step: int, slopes_P: Tensor) -> None:
    for p, slope in enumerate(slopes_P.tolist()):
        signs.move(signs.draw(0, at, step, p), -own.config.train.head_lr / len(slopes_P) * slope)


def _beside(signs: Signs, u: Sequence[Tensor], scale: float, look: Look) -> Tensor:
    here = signs.copy()
    signs.move(u, scale)
    found = look()
    signs.put(here)
    return found


def _central(signs: Signs, u: Sequence[Tensor], mu: float, look: Look) -> float:
    above, below = _beside(signs, u, mu, look), _beside(signs, u, -mu, look)
    return float((above - below) / (2 * mu))


def _forward(head: Piece, batch: Batch) -> Look:
    def look() -> Tensor:
        with torch.no_grad():
            found = head(batch.inputs)
        assert isinstance(found, Tensor)
        return found

    return look


def _loss(piece: Piece, inputs: Any, batch: Batch) -> Look:
    def look() -> Tensor:
        with torch.no_grad():
            found = piece(inputs, {}, batch.labels).loss
        assert isinstance(found, Tensor)
        return found

    return look


def _learn(
    body: Piece,
    hidden_BTD: Tensor,
    batch: Batch,
    optimiser: torch.optim.Optimizer,
    *,
    wants_grad: bool = True,
) -> tuple[float, Tensor]:
    """The body's step: its loss, and the gradient at the cut where that is wanted."""
    at_cut = hidden_BTD.detach().requires_grad_(wants_grad)
    loss = body(at_cut, {}, batch.labels).loss
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
    return float(loss.item()), at_cut if at_cut.grad is None else at_cut.grad
