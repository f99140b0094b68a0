"""`heron`, `mu-splitfed` and `hiso` against what they are defined to do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.adapters.inject import trainable
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Adapter, Scalars
from splitfl.federation.aggregators import Mean
from splitfl.methods.hiso import HessianScaledParameters
from splitfl.methods.parts.auxiliary import split_auxiliary
from splitfl.methods.parts.perturbations import rademacher
from splitfl.models.cut import Piece
from splitfl.models.token_rows import unpack
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import play

MU, LR = 1e-3, 0.5


place = toy.place(rows=40)


def site(
    place: Path, name: str, *, steps: int = 1, rounds: int = 1, clients: int = 1, **method: Any
) -> Experiment:
    federation = {"clients": clients, "rounds": rounds, "local_steps": steps, "aggregator": "mean"}
    lrs = {"head_lr": LR} if name in ("decomfl", "hiso") else {"head_lr": LR, "body_lr": LR}
    return Experiment.of(toy.config(place, method={"name": name, **method}, federation=federation, train=lrs))


def pieces(site: Experiment) -> PieceLoader:
    return PieceLoader(config=site.config, task=site.task, num_blocks=site.num_blocks, device="cpu")


def signs(tensors: dict[str, Tensor], *name: str | int) -> dict[str, Tensor]:
    """The named direction over these tensors, one after another."""
    sizes = [value.numel() for value in tensors.values()]
    drawn = torch.split(rademacher(sum(sizes), 0, *name), sizes)
    return {key: u.view_as(value) for (key, value), u in zip(tensors.items(), drawn, strict=True)}


def moved(piece: Piece, tensors: dict[str, Tensor], u: dict[str, Tensor], scale: float) -> None:
    """Puts the piece's own tensors at values + scale * u."""
    with torch.no_grad():
        for name, parameter in trainable(piece).items():
            if name in tensors:
                parameter.copy_(tensors[name] + scale * u[name])


def values(piece: Piece) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in trainable(piece).items()}


@pytest.mark.parametrize("derivative", quick(["difference", "central"], "central"))
def test_a_step_of_heron_descends_along_estimates_of_its_auxiliarys_loss(
    derivative: str, place: Path, tmp_path: Path
) -> None:
    """It goes to theta - lr / P * sum of v_p u_p over head and auxiliary, by either kind of difference."""
    one = site(place, "heron", auxiliary_blocks=1, perturbations=2, mu=MU, derivative=derivative)
    head, auxiliary = pieces(one).head(), pieces(one).auxiliary()
    batch = one.batches(0).batch(0)
    context = head.context_of(batch.inputs)
    first = {**values(head), **{f"auxiliary.{n}": value for n, value in values(auxiliary).items()}}

    def loss(u: dict[str, Tensor], scale: float) -> float:
        of_head, of_auxiliary = split_auxiliary(u)
        moved(head, split_auxiliary(first)[0], of_head, scale)
        moved(auxiliary, split_auxiliary(first)[1], of_auxiliary, scale)
        with torch.no_grad():
            return float(auxiliary(head(batch.inputs, {}), context, batch.labels).loss)

    wanted = {name: value.clone() for name, value in first.items()}
    for p in range(2):
        u = signs(first, 0, 0, 0, p)
        below = loss(u, -MU) if derivative == "central" else loss(u, 0.0)
        slope = (loss(u, MU) - below) / (2 * MU if derivative == "central" else MU)
        for name, value in wanted.items():
            value -= LR / 2 * slope * u[name]
    said = play(one, tmp_path).said
    (upload,) = [message for _, _, message, _ in said if isinstance(message, Adapter)]
    assert upload.tensors.keys() == wanted.keys()
    for name, value in upload.tensors.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5)
    (sent,) = [message for _, _, message, _ in said if isinstance(message, Activation)]
    moved(head, split_auxiliary(first)[0], signs(first, 0, 0, 0, 0), 0.0)
    assert sent.hidden is not None
    with torch.no_grad():
        assert torch.equal(sent.hidden, head(batch.inputs, {})[batch.inputs["attention_mask"].bool()])


@pytest.mark.parametrize("server_steps", quick([1, 3], 3))
def test_a_step_of_mu_splitfed_makes_several_server_steps(
    server_steps: int, place: Path, tmp_path: Path
) -> None:
    """Body: phi - lr v u, tau times, at the first activation; head: theta - lr v u, v from the body then."""
    one = site(place, "mu-splitfed", server_steps=server_steps, mu=MU)
    head, body = pieces(one).head(), pieces(one).body()
    batch = one.batches(0).batch(0)
    context, theta, phi = head.context_of(batch.inputs), values(head), values(body)
    u = signs(theta, 0, 0, 0, 0)

    def hidden(scale: float) -> Tensor:
        moved(head, theta, u, scale)
        with torch.no_grad():
            return head(batch.inputs, {}) * batch.inputs["attention_mask"][:, :, None]

    def loss(state: Tensor) -> float:
        with torch.no_grad():
            return float(body(state, context, batch.labels).loss)

    here, above, below = (hidden(scale) for scale in (0.0, MU, -MU))
    first = loss(here)
    for step in range(server_steps):
        w = signs(phi, "server", 0, 0, 1, step)
        around = []
        for scale in (MU, -MU):
            moved(body, phi, w, scale)
            around.append(loss(here))
        slope = (around[0] - around[1]) / (2 * MU)
        phi = {name: value - LR * slope * w[name] for name, value in phi.items()}
    moved(body, phi, signs(phi, 0), 0.0)
    slope = (loss(above) - loss(below)) / (2 * MU)
    played = play(one, tmp_path)
    (heard,) = [reply for _, _, _, reply in played.said if isinstance(reply, Scalars)]
    assert heard.values.shape == (1, 1)
    assert float(heard.values) == pytest.approx(slope, rel=1e-2, abs=1e-3)
    assert played.losses == [first]
    wanted = {name: theta[name] - LR * float(heard.values) * u[name] for name in theta} | phi
    for name, value in played.trained.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=1e-4)
    (sent,) = [message for _, _, message, _ in played.said if isinstance(message, Activation)]
    assert sent.hidden is not None
    for found, state in zip(sent.hidden, (here, above, below), strict=True):
        assert torch.equal(unpack(found, context.get("mask")), state)


@pytest.mark.slow
def test_hiso_with_constant_curvature_is_decomfl(place: Path, tmp_path: Path) -> None:
    plain = play(site(place, "decomfl", rounds=3, clients=2, perturbations=2), tmp_path)
    hiso = play(site(place, "hiso", rounds=3, clients=2, perturbations=2, hessian_smooth=1.0), tmp_path)
    assert hiso.losses == plain.losses
    for name, value in plain.trained.items():
        torch.testing.assert_close(hiso.trained[name], value, rtol=1e-6, atol=1e-7)
    other = play(site(place, "hiso", rounds=3, clients=2, perturbations=2, hessian_smooth=0.5), tmp_path)
    assert other.losses != plain.losses


def test_a_round_of_hiso_is_its_formula() -> None:
    """Two rounds of two clients: steps along u / sqrt(H), then H = s H + (1 - s) g^2 of the last steps."""
    lr, smooth, d = 0.1, 0.7, 50
    perturbed = HessianScaledParameters({"x": torch.zeros(d)}, Mean(), 0, 2, lr, smooth)
    x, h = torch.zeros(d), torch.ones(d)
    chance = torch.Generator().manual_seed(0)
    for round_index in range(2):
        steps = (2, 1)
        slopes = torch.randn(3, 4, generator=chance)
        perturbed.replay(Scalars(round=round_index, values=slopes, steps=steps), round_index)
        g, rows = torch.zeros(d), iter(slopes)
        for client, count in enumerate(steps):
            for step in range(count):
                estimate = torch.zeros(d)
                for p, slope in enumerate(next(rows)):
                    u = rademacher(d, 0, client, round_index, step, p) / h.sqrt()
                    estimate += slope * u / 4
                x = x - lr * estimate
                if step == count - 1:
                    g += estimate
        h = smooth * h + (1 - smooth) * g.square()
        torch.testing.assert_close(perturbed.tensors["x"], x)
        torch.testing.assert_close(perturbed.extra_state()["curvature.x"], h)


def test_heron_refuses_forward_mode(place: Path) -> None:
    with pytest.raises(
        ConfigError, match="derivative must be 'difference' or 'central' with the method 'heron'"
    ):
        Experiment.of(
            toy.config(place, method={"name": "heron", "derivative": "jvp"}, model={"attention": "eager"})
        )


def test_hiso_refuses_a_single_perturbation(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"method.perturbations must be at least 2 with the method 'hiso'"):
        site(place, "hiso", perturbations=1)
    site(place, "hiso", perturbations=1, clients=2)
