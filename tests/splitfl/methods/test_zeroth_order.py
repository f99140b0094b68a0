"""Clients without backpropagation: their estimates against the gradient, and replays against each other."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.adapters.inject import install, trainable
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.core.messages import LOST, Activation, Adapter, Done, Gradient, Scalars
from splitfl.federation.aggregators import Mean
from splitfl.federation.server_optimiser import server_optimiser
from splitfl.methods.hosl import derivatives_of
from splitfl.methods.hybrid import HybridClient, hidden_of
from splitfl.methods.parts.forward_mode import Function
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, perturbed_parameters
from splitfl.methods.parts.scalar_log import ScalarLog
from splitfl.methods.parts.zeroth_order_client import Estimate, SlicedEstimate, ZerothOrderClient
from splitfl.models.cut import Piece
from splitfl.models.token_rows import unpack
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.quick import quick
from tests.splitfl import toy

# torch itself compiles what forward mode needs the first time it is used, in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {model_type: tmp_path_factory.mktemp(model_type) for model_type in ("bert", "gpt2")}
    for model_type, folder in folders.items():
        toy.model(folder / "model", model_type)
        toy.data(folder / "data.tsv", rows=40)
    return folders


@pytest.fixture
def place(places: dict[str, Path]) -> Path:
    return places["bert"]


def settings(place: Path, **method: Any) -> RunConfig:
    """One client whose step is as long as its estimate of the gradient."""
    return toy.config(
        place,
        model={"name": str(place / "model"), "attention": "eager"},
        method={"name": "hybrid", **method},
        federation={"clients": 1, "aggregator": "mean"},
        train={"head_lr": 1.0},
    )


def zeroth_order_of(piece: Piece, client: int, config: RunConfig) -> ZerothOrderClient:
    values = {name: value.detach() for name, value in trainable(piece).items()}
    own = config.method.of(SlicedEstimate)
    return ZerothOrderClient(
        piece, client, own.estimate, perturbed_parameters(values, config, is_sliced=own.slices)
    )


class Scene:
    """A head and a body with adapters that are not zero, a batch, and the loss's gradient."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.site = Experiment.of(config)
        task, num_blocks = self.site.task, self.site.num_blocks
        pieces = PieceLoader(config=config, task=task, num_blocks=num_blocks, device="cpu")
        self.head, self.body = pieces.head(), pieces.body()
        chance = torch.Generator().manual_seed(1)
        for piece in (self.head, self.body):
            held = trainable(piece)
            install(piece, {n: 0.1 * torch.randn(v.shape, generator=chance) for n, v in held.items()})
        self.batch = self.site.batches(0).batch(0)
        self.context = self.head.context_of(self.batch.inputs)
        self.forward: Function = hidden_of(self.batch, self.context)
        hidden = self.forward(self.head)
        (self.gradient,) = torch.autograd.grad(self.loss_at(hidden), hidden, retain_graph=True)
        grads = torch.autograd.grad(hidden, list(trainable(self.head).values()), self.gradient)
        self.truth = torch.cat([grad.flatten() for grad in grads])

    def loss_at(self, hidden_ND: Tensor) -> Tensor:
        hidden_BTD = unpack(hidden_ND, self.context.get("mask"))
        loss = self.body(hidden_BTD, self.context, self.batch.labels).loss
        assert isinstance(loss, Tensor)
        return loss

    def zeroth_order(self) -> ZerothOrderClient:
        """A client at the start of its first round."""
        made = zeroth_order_of(self.head, 0, self.config)
        made.start_round(LOST, 0)
        return made

    def derivatives(self, steps: int = 1) -> Tensor:
        """(S, P): what the client would send, standing still."""
        zeroth_order = self.zeroth_order()
        value = zeroth_order.evaluate(self.forward, self.batch.shape)
        for _ in range(steps):
            zeroth_order.step(self.forward, self.gradient, value, self.batch.shape)
            install(self.head, zeroth_order.base)
        return zeroth_order.upload(0, 1).values

    def directions(self, step: int, perturbations: int) -> Tensor:
        """(P, d)."""
        still = perturbed_parameters(
            {name: value.detach() for name, value in trainable(self.head).items()}, self.config
        )
        drawn = [still.draw(0, 0, step, p) for p in range(perturbations)]
        return torch.stack([torch.cat([signs.flatten() for signs in one.values()]) for one in drawn])


@pytest.mark.slow
@pytest.mark.parametrize("derivative", ["difference", "jvp"])
def test_an_estimates_cosine_with_the_gradient_follows_the_law(derivative: str, place: Path) -> None:
    """cos(estimate, gradient) = sqrt(P / (P + d)), the mean of 50 trials within 20 %."""
    trials, perturbations = 50, 8
    scene = Scene(settings(place, derivative=derivative, perturbations=perturbations))
    found_SP = scene.derivatives(trials)
    cosines = []
    for step in range(trials):
        estimate = found_SP[step] @ scene.directions(step, perturbations)
        cosines.append(torch.cosine_similarity(estimate, scene.truth, dim=0))
    law = (perturbations / (perturbations + len(scene.truth))) ** 0.5
    assert float(torch.stack(cosines).mean()) == pytest.approx(law, rel=0.2)


def test_a_step_descends_along_the_estimate(place: Path) -> None:
    scene = Scene(settings(place, perturbations=3))
    zeroth_order = scene.zeroth_order()
    value = zeroth_order.evaluate(scene.forward, scene.batch.shape)
    zeroth_order.step(scene.forward, scene.gradient, value, scene.batch.shape)
    before = torch.cat([value.flatten() for value in zeroth_order.base.values()])
    after = torch.cat([value.detach().flatten() for value in trainable(scene.head).values()])
    estimate = zeroth_order.upload(0, 1).values[0] @ scene.directions(0, 3) / 3
    torch.testing.assert_close(before - after, estimate, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_forward_mode_is_exact_and_differences_come_close(model_type: str, places: dict[str, Path]) -> None:
    place = places[model_type]
    perturbations = 8
    derivatives_P = {
        name: Scene(settings(place, derivative=name, perturbations=perturbations)).derivatives()[0]
        for name in ("difference", "central", "jvp")
    }
    scene = Scene(settings(place))
    exact_P = scene.directions(0, perturbations) @ scene.truth
    torch.testing.assert_close(derivatives_P["jvp"], exact_P, rtol=1e-4, atol=1e-5)
    for name in ("difference", "central"):
        assert relative(derivatives_P[name], exact_P) < 0.02, name


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_hybrid_and_hosl_have_the_same_estimates(model_type: str, places: dict[str, Path]) -> None:
    """The gradient's way through the activation, or the loss's difference: within 2 % at mu 1e-3."""
    scene = Scene(settings(places[model_type], perturbations=8, mu=1e-3))
    with torch.no_grad():
        around = list(scene.zeroth_order().evaluate_both_sides(scene.forward, 0, scene.batch.shape))
        losses_P2 = torch.stack([scene.loss_at(hidden) for hidden in around]).view(8, 2)
    assert relative(derivatives_of(losses_P2, 1e-3), scene.derivatives()[0]) < 0.02


def test_evaluating_perturbations_restores_the_parameters(place: Path) -> None:
    scene = Scene(settings(place, perturbations=5))
    before = {name: value.detach().clone() for name, value in trainable(scene.head).items()}
    list(scene.zeroth_order().evaluate_both_sides(scene.forward, 0, scene.batch.shape))
    assert all(torch.equal(before[name], value) for name, value in trainable(scene.head).items())


@pytest.mark.parametrize("derivative", ["difference", "central", "jvp"])
def test_a_hybrid_client_saves_nothing_for_a_backward_pass(derivative: str, place: Path) -> None:
    scene = Scene(settings(place, derivative=derivative))
    client = HybridClient(scene.zeroth_order(), scene.site.batches(0), 2)
    saved: list[torch.Size] = []

    def pack_hook(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
        scene.forward(scene.head)
        assert saved, "backpropagation saves"
        saved.clear()
        run = client.round(0)
        next(run)
        message = run.send(Done())
        while isinstance(message, Activation):
            assert message.hidden is not None
            assert not message.hidden.requires_grad
            message = run.send(Gradient(ids_B=message.ids_B, grad=torch.ones_like(message.hidden)))
    assert isinstance(message, Scalars)
    assert bool(message.values.all())
    assert saved == []


@pytest.mark.slow
def test_perturbations_of_each_clients_own_give_a_better_mean() -> None:
    """Relative squared error with g_k the clients' gradients, g their mean, over 100 trials within 10 %:
    (d - 1) / P for shared directions, (d - 1) / P * mean |g_k|^2 / (K |g|^2) for their own."""
    clients, perturbations, parameters, trials = 8, 4, 400, 100
    chance = torch.Generator().manual_seed(5)
    shared_part = torch.randn(parameters, generator=chance)
    gradients = shared_part + 1.5 * torch.randn(clients, parameters, generator=chance)
    mean = gradients.mean(0)
    still = PerturbedParameters({"x": torch.zeros(parameters)}, Mean(), 0, clients, 1.0)
    errors = {"shared": 0.0, "own": 0.0}
    for trial in range(trials):
        for label, own in (("shared", 0), ("own", 1)):
            estimate = torch.zeros(parameters)
            for client, gradient in enumerate(gradients):
                for p in range(perturbations):
                    signs = still.draw(own * client, 0, trial, p)["x"]
                    estimate += (signs @ gradient) * signs / (clients * perturbations)
            errors[label] += float((estimate - mean).square().sum() / mean.square().sum()) / trials
    law = (parameters - 1) / perturbations
    gain = float(gradients.square().sum(1).mean() / mean.square().sum()) / clients
    assert errors["shared"] == pytest.approx(law, rel=0.1)
    assert errors["own"] == pytest.approx(law * gain, rel=0.1)
    assert gain < 0.5


def scalar_logs(config: RunConfig) -> tuple[ZerothOrderClient, ZerothOrderClient, ScalarLog]:
    """Two clients' walkers and their server's history, from the same start."""
    site = Experiment.of(config)
    pieces = PieceLoader(config=config, task=site.task, num_blocks=site.num_blocks, device="cpu")
    start = {name: value.detach().clone() for name, value in trainable(pieces.head()).items()}
    scalar_log = ScalarLog(
        config.method.name, perturbed_parameters(start, config), 2, config.method.of(Estimate).perturbations
    )
    return zeroth_order_of(pieces.head(), 0, config), zeroth_order_of(pieces.head(), 1, config), scalar_log


@pytest.mark.parametrize("aggregator", quick(["rolora", "mean"], "mean"))
@pytest.mark.parametrize("perturbations", [2, 40])
def test_a_client_that_missed_rounds_ends_with_the_same_bits(
    aggregator: str, perturbations: int, place: Path
) -> None:
    """By replay of the scalars where these are fewer numbers, by the tensors where those are."""
    config = toy.config(
        place,
        method={"name": "hybrid", "perturbations": perturbations},
        federation={"clients": 2, "aggregator": aggregator},
    )
    steady, away, scalar_log = scalar_logs(config)
    chance = torch.Generator().manual_seed(2)
    for round_index in range(4):
        answer = scalar_log.since(steady.begin(round_index, 4).version)
        steady.start_round(answer or Done(), round_index)
        away.start_round(LOST, round_index)
        for client, steps in ((0, 3), (1, round_index)):
            found = torch.randn(steps, perturbations, generator=chance)
            scalar_log.receive(client, 0, found, 8 * steps)
        for derivatives_P in found:  # it walks by what it has found itself, and must unlearn that
            away.apply(derivatives_P)
        scalar_log.end_round()
    steady.start_round(scalar_log.since(3) or LOST, 4)
    recovery = scalar_log.since(0)
    assert type(recovery) is (Scalars if perturbations == 2 else Adapter)
    away.start_round(recovery or LOST, 4)
    assert scalar_log.since(4) is None
    assert steady.base.keys() == away.base.keys() == scalar_log.tensors.keys()
    for name, value in scalar_log.tensors.items():
        assert torch.equal(steady.base[name], value)
        assert torch.equal(away.base[name], value)
    assert any(bool((scalar_log.tensors[name] != 0).any()) for name in scalar_log.tensors if "lora_B" in name)


@pytest.mark.parametrize("perturbations", quick((2, 1000), 2))
@pytest.mark.parametrize("kind", quick(("momentum", "adam"), "momentum"))
def test_a_client_that_missed_rounds_has_the_server_optimisers_steps(
    kind: str, perturbations: int, place: Path
) -> None:
    config = toy.config(
        place,
        method={"name": "hybrid", "perturbations": perturbations},
        federation={"clients": 2, "aggregator": "mean", "server_optimiser": kind, "server_lr": 0.5},
    )
    steady, away, scalar_log = scalar_logs(config)
    chance = torch.Generator().manual_seed(2)
    for round_index in range(4):
        steady.start_round(scalar_log.since(max(0, round_index - 1)) or LOST, round_index)
        scalar_log.receive(0, 0, torch.randn(3, perturbations, generator=chance), 8)
        scalar_log.end_round()
    steady.start_round(scalar_log.since(3) or LOST, 4)
    recovery = scalar_log.since(0)
    assert type(recovery) is (Scalars if perturbations == 2 else Adapter)
    away.start_round(recovery or LOST, 4)
    kept = away.state()
    assert steady.state().keys() == kept.keys()
    assert any(name.startswith("memory.optimiser.") for name in kept)
    for name, value in steady.state().items():
        assert torch.equal(kept[name], value)


def test_server_momentum_equals_torchs_on_the_sum_of_a_rounds_steps() -> None:
    plain = PerturbedParameters({"x": torch.zeros(9)}, Mean(), 0, 2, 0.1)
    moved = PerturbedParameters(
        {"x": torch.zeros(9)}, Mean(), 0, 2, 0.1, optimiser=server_optimiser("momentum", 0.7)
    )
    x = torch.nn.Parameter(torch.zeros(9))
    optimiser = torch.optim.SGD([x], lr=0.7, momentum=0.9)
    for round_index in range(5):
        scalars = Scalars(round=round_index, values=torch.randn(4, 3), steps=(2, 2))
        plain.tensors["x"].copy_(x.detach())
        plain.replay(scalars, round_index)
        x.grad = x.detach() - plain.tensors["x"]
        optimiser.step()
        moved.replay(scalars, round_index)
        assert torch.equal(moved.tensors["x"], x.detach())


def test_a_cached_replay_has_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not those of others: of another rate, seed, start or slope."""
    scalars = Scalars(round=3, values=torch.randn(4, 5), steps=(2, 2))
    moves = 0
    move = PerturbedParameters.move

    def counted(self: PerturbedParameters, directions: Any, scale: float) -> None:
        nonlocal moves
        moves += 1
        move(self, directions, scale)

    monkeypatch.setattr(PerturbedParameters, "move", counted)

    def walked(lr: float = 0.1, seed: int = 0, start: float = 0.0, derivatives: Scalars = scalars) -> Tensor:
        one = PerturbedParameters({"x": torch.full((9,), start)}, Mean(), seed, 2, lr)
        assert one.replay(derivatives, 3) == 4
        return one.tensors["x"]

    first, made = walked(), moves
    assert made == 20
    assert torch.equal(walked(), first)
    assert moves == made
    other = Scalars(round=3, values=scalars.values + 1.0, steps=(2, 2))
    for different in (walked(lr=0.2), walked(seed=1), walked(start=1.0), walked(derivatives=other)):
        assert not torch.equal(different, first)
    assert moves == 5 * made


def test_a_replay_weights_each_client_by_its_samples(place: Path) -> None:
    config = toy.config(place, method={"name": "hybrid", "perturbations": 1})
    _, _, scalar_log = scalar_logs(config)
    scalar_log.receive(0, 0, torch.tensor([[1.0]]), 6)
    scalar_log.receive(1, 0, torch.tensor([[1.0], [2.0]]), 2)
    scalar_log.end_round()
    heard = scalar_log.since(0)
    assert isinstance(heard, Scalars)
    assert heard.values.tolist() == [[0.75], [0.25], [0.5]]
    assert heard.steps == (1, 2)


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        (
            {"method": {"name": "hybrid", "derivative": "jvp"}},
            ".'jvp'. needs model.attention 'eager', got 'sdpa'",
        ),
        (
            {"method": {"name": "hybrid", "mu": 1e-4}, "model": {"dtype": "bfloat16"}},
            r"method.mu must be at least 0.001 with model.dtype 'bfloat16', got 0.0001",
        ),
        ({"method": {"name": "decomfl"}, "train": {"weight_decay": 0.1}}, "weight_decay must be 0 with"),
        ({"method": {"name": "hosl", "derivative": "central"}}, "derivative"),
        ({"method": {"name": "sfl-v2", "perturbations": 9}}, "perturbations"),
    ],
)
def test_settings_that_need_backpropagation_are_refused(
    tables: dict[str, Any], reason: str, place: Path
) -> None:
    with pytest.raises(ConfigError, match=reason):
        Experiment.of(toy.config(place, **tables))


def relative(found: Tensor, truth: Tensor) -> float:
    """The length of the difference over the length of the truth."""
    return float((found - truth).norm() / truth.norm())
