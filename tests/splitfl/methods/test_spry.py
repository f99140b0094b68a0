"""Forward mode over a slice of the adapters: whose slice is which, and what its estimate is of."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.adapters.inject import trainable
from splitfl.core.errors import ConfigError
from splitfl.core.messages import LOST, Adapter, Done
from splitfl.federation.aggregators import Mean, Rolora
from splitfl.methods.decomfl import loss_of
from splitfl.methods.parts.forward_mode import paths, tangent
from splitfl.methods.parts.parameter_slices import Slice
from splitfl.methods.parts.perturbed_parameters import perturbed_parameters
from splitfl.methods.spry import SpryClient
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.splitfl import toy
from tests.splitfl.driver import play

# torch itself compiles what forward mode needs the first time it is used, in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


place = toy.place(is_base=True, rows=40)


def site(place: Path, clients: int, aggregator: str = "mean", **method: Any) -> Experiment:
    return Experiment.of(
        toy.config(
            place,
            model={"attention": "eager"},
            method={"name": "spry", **method},
            federation={"clients": clients, "rounds": 2, "local_steps": 2, "aggregator": aggregator},
        )
    )


@pytest.mark.parametrize("clients", [1, 3, 20])
def test_every_adapter_has_an_owner_and_slices_are_disjoint_if_possible(clients: int) -> None:
    modules = [f"block.{index}.query" for index in range(8)]
    names = [f"{module}.lora_{part}.weight" for module in modules for part in "AB"] + ["classifier.weight"]
    slices = [Slice(Mean(), names, client, clients) for client in range(clients)]
    for round_index in range(3):
        held = [[name for name in names if one.trains(name, round_index)] for one in slices]
        assert all("classifier.weight" in own for own in held)
        owners = [sum(name in own for own in held) for name in names[:-1]]
        assert min(owners) >= 1
        assert max(owners) <= max(1, -(-clients // 8))
        assert all(len(own) > 1 for own in held)
    assert slices[0].trains(names[0], 0)
    assert slices[0].trains(names[0], 1) == (clients == 1)


def test_a_slice_follows_the_aggregator() -> None:
    one = Slice(Rolora(), ["a.lora_A.weight", "a.lora_B.weight"], 0, 1)
    assert [one.trains("a.lora_A.weight", at) for at in range(2)] == [False, True]
    assert [one.trains("a.lora_B.weight", at) for at in range(2)] == [True, False]


@pytest.mark.slow
def test_the_mean_over_perturbations_is_the_gradient(place: Path) -> None:
    """Each slope is <gradient, u> exactly, so the mean of v u has a relative squared error of (d - 1) / P."""
    one = site(place, clients=1)
    pieces = PieceLoader(config=one.config, task=one.task, num_blocks=one.num_blocks, device="cpu")
    model, forward = pieces.whole(), loss_of(one.batches(0).batch(0))
    parameters = trainable(model)
    truth = flat(torch.autograd.grad(forward(model), list(parameters.values())))
    still = perturbed_parameters({name: value.detach() for name, value in parameters.items()}, one.config)
    where, directions = paths(model), 64
    estimate = torch.zeros_like(truth)
    for step in range(directions):
        u = still.draw(0, 0, step, 0)
        values = {where[name]: value.detach() for name, value in parameters.items()}
        _, slope = tangent(model, forward, values, {where[name]: u[name] for name in u})
        signs = flat(u.values())
        torch.testing.assert_close(slope, signs @ truth, rtol=1e-3, atol=1e-5)
        estimate += slope * signs / directions
    error = float((estimate - truth).square().sum() / truth.square().sum())
    assert error == pytest.approx((len(truth) - 1) / directions, rel=0.25)


@pytest.mark.slow
def test_clients_upload_only_their_slices(place: Path, tmp_path: Path) -> None:
    played = play(site(place, clients=3), tmp_path)
    for round_index in range(2):
        uploads = [m for _, at, m, _ in played.said if at == round_index and isinstance(m, Adapter)]
        adapters = [{name for name in upload.tensors if "lora" in name} for upload in uploads]
        assert all(adapters)
        assert sum(map(len, adapters)) == len(set().union(*adapters))
        assert all(any("lora" not in name for name in upload.tensors) for upload in uploads)


@pytest.mark.slow
def test_a_lost_update_is_undone_on_its_client(place: Path) -> None:
    client = site(place, clients=2).client_method(0)
    assert isinstance(client, SpryClient)
    held = trainable(client.trainer.piece)
    before = {name: value.detach().clone() for name, value in held.items()}
    run = client.round(0)
    next(run)
    upload = run.send(Done())
    assert isinstance(upload, Adapter)
    assert not all(torch.equal(before[name], value) for name, value in upload.tensors.items())
    with pytest.raises(StopIteration):
        run.send(LOST)
    assert all(torch.equal(before[name], value) for name, value in held.items())


@pytest.mark.slow
def test_a_client_saves_nothing_for_a_backward_pass(place: Path) -> None:
    client = site(place, clients=2).client_method(1)
    saved: list[torch.Size] = []

    def pack_hook(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    run = client.round(0)
    next(run)
    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
        run.send(Done())
    assert saved == []


@pytest.mark.parametrize("model_type", ["bloom", "mixtral"])
def test_models_without_a_derivative_in_forward_mode_are_refused(model_type: str, tmp_path: Path) -> None:
    toy.model(tmp_path / "model", model_type)
    toy.data(tmp_path / "data.tsv", rows=40)
    with pytest.raises(ConfigError, match=f"a {model_type} model does not work in forward mode: .* backward"):
        site(tmp_path, clients=2)


def flat(tensors: Any) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])
