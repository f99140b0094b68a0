"""Server optimisers against Reddi et al.'s Algorithm 2, written out, and against torch where it has them."""

import pytest
import torch
from torch import Tensor

from splitfl.config import FederationConfig
from splitfl.core.messages import Adapter
from splitfl.federation.averager import Averager, Start
from splitfl.federation.server_optimiser import server_optimiser

NAME = "classifier.weight"
LR, BETA_1, BETA_2, TAU = 0.1, 0.9, 0.99, 1e-3


def moves(rounds: int) -> list[Tensor]:
    chance = torch.Generator().manual_seed(0)
    return [torch.randn(7, generator=chance, dtype=torch.float64) for _ in range(rounds)]


def walked(kind: str, found: list[Tensor]) -> Tensor:
    made, x = server_optimiser(kind, LR), torch.zeros(7, dtype=torch.float64)
    assert made is not None
    for move in found:
        x = made.step({NAME: x}, {NAME: x + move})[NAME]
    return x


@pytest.mark.parametrize("kind", ["adagrad", "yogi", "adam"])
def test_an_adaptive_optimiser_follows_the_algorithm(kind: str) -> None:
    x, m, v = torch.zeros(7).double(), torch.zeros(7).double(), torch.full((7,), TAU**2).double()
    for move in moves(5):
        m = BETA_1 * m + (1 - BETA_1) * move
        square = move * move
        if kind == "adagrad":
            v = v + square
        elif kind == "yogi":
            v = v - (1 - BETA_2) * square * torch.sign(v - square)
        else:
            v = BETA_2 * v + (1 - BETA_2) * square
        x = x + LR * m / (v.sqrt() + TAU)
    torch.testing.assert_close(walked(kind, moves(5)), x, rtol=1e-12, atol=0.0)


def test_adam_is_torchs_but_for_the_corrections_of_bias() -> None:
    """In a first step torch divides m by 1 - beta_1 and v by 1 - beta_2; v began at tau^2, tiny here."""
    (move,) = moves(1)
    parameter = torch.nn.Parameter(torch.zeros(7).double())
    parameter.grad = -move
    torch.optim.Adam([parameter], lr=LR, betas=(BETA_1, BETA_2), eps=0.0).step()
    ratio = (1 - BETA_1) / (1 - BETA_2) ** 0.5
    torch.testing.assert_close(walked("adam", [move]), parameter.detach() * ratio, rtol=0.05, atol=0.0)


@pytest.mark.parametrize("kind", ["momentum", "nesterov"])
def test_momentum_is_torchs(kind: str) -> None:
    found, x = moves(5), torch.nn.Parameter(torch.zeros(7).double())
    optimiser = torch.optim.SGD([x], lr=LR, momentum=0.9, nesterov=kind == "nesterov")
    for move in found:
        x.grad = -move
        optimiser.step()
    torch.testing.assert_close(walked(kind, found), x.detach(), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("kind", ["momentum", "nesterov", "adagrad", "yogi", "adam"])
def test_a_restarted_server_keeps_the_moments_of_its_optimiser(kind: str) -> None:
    settings = FederationConfig(clients=1, server_optimiser=kind)
    start = Start(tensors={NAME: torch.ones(7)})
    unbroken, anew = Averager(settings, start), Averager(settings, start)
    for made in (unbroken, anew):
        for move in moves(4):
            if made is anew:
                made = Averager(settings, start)
                made.restore(anew.state())
            made.receive(Adapter(version=0, samples=3, tensors={NAME: move.float()}))
            made.end_round()
            if made is not unbroken:
                anew = made
    assert torch.equal(anew.tensors[NAME], unbroken.tensors[NAME])
    assert not torch.equal(anew.tensors[NAME], moves(4)[-1].float())
