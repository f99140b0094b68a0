"""A piece that clients share holds the tensors of the client it was given, and keeps those of the others."""

from pathlib import Path

import torch

from splitfl.adapters.inject import held, install, trainable
from splitfl.adapters.residuals import RESIDUAL_A, RESIDUAL_B, A, B, residuals
from splitfl.adapters.shared_piece import SharedPiece
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy

place = toy.place(rows=30)


def shared_piece(place: Path) -> SharedPiece:
    return SharedPiece(Experiment.of(toy.config(place)).client_pieces(0).head())


def test_a_client_finds_its_tensors_again_and_a_new_one_the_initial_ones(place: Path) -> None:
    shared = shared_piece(place)
    initial = {name: value.detach().clone() for name, value in held(shared.piece).items()}
    first, second = shared.initial(), shared.initial()
    shared.give(first)
    trained = trainable(shared.piece)
    with torch.no_grad():
        for value in trained.values():
            value.add_(1.0)
    shared.give(second)
    for name, value in held(shared.piece).items():
        assert torch.equal(value, initial[name])
        assert value is not trained[name]
    shared.give(first)
    assert all(value is trained[name] for name, value in trainable(shared.piece).items())


def test_another_clients_tensors_in_the_modules_leave_a_graph_valid(place: Path) -> None:
    shared = shared_piece(place)
    batch = Experiment.of(toy.config(place)).batches(0).batch(0)
    first, second = shared.initial(), shared.initial()
    grads = []
    for is_interrupted in (False, True):
        shared.give(first)
        hidden_BTD = shared.piece(batch.inputs)
        if is_interrupted:
            shared.give(second)
            shared.piece(batch.inputs).sum().backward()
        hidden_BTD.sum().backward()
        shared.give(first)
        own = trainable(shared.piece)
        grads.append({name: value.grad for name, value in own.items()})
        for value in own.values():
            value.grad = None
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[0].items():
        assert grad is not None
        assert torch.equal(grad, grads[1][name])


def test_residuals_are_one_clients_own(place: Path) -> None:
    shared = shared_piece(place)
    inputs = Experiment.of(toy.config(place)).batches(0).batch(0).inputs
    first, second = shared.initial(), shared.initial()
    shared.give(first)
    plain_BTD = shared.piece(inputs)
    factors = {name: value.detach() for name, value in trainable(shared.piece).items()}
    residual = {name.replace(A, RESIDUAL_A): value for name, value in factors.items() if name.endswith(A)}
    residual |= {
        name.replace(B, RESIDUAL_B): torch.ones_like(value)
        for name, value in factors.items()
        if name.endswith(B)
    }
    install(shared.piece, residual)
    with_residual_BTD = shared.piece(inputs)
    assert not torch.equal(with_residual_BTD, plain_BTD)
    shared.give(second)
    assert residuals(shared.piece.model) == {}
    assert torch.equal(shared.piece(inputs), plain_BTD)
    install(shared.piece, residual)
    assert torch.equal(shared.piece(inputs), with_residual_BTD)
    shared.give(first)
    assert torch.equal(shared.piece(inputs), with_residual_BTD)
