"""Outer optimisers against torch, the rule written out, and each other where they are equal."""

from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.config import FederationConfig
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Adapter
from splitfl.federation.aggregators import weighted_mean
from splitfl.federation.averager import Averager, Start
from splitfl.federation.server_optimiser import OuterOptimiser

NAME = "transformer.wte.weight"
ROUNDS, CLIENTS, WIDTH = 7, 3, 11


def updates(dtype: torch.dtype = torch.float64) -> list[list[Tensor]]:
    """What each client adds to the tensors, by round."""
    chance = torch.Generator().manual_seed(0)
    return [
        [torch.randn(WIDTH, generator=chance, dtype=dtype) / 8 for _ in range(CLIENTS)] for _ in range(ROUNDS)
    ]


def after(dtype: torch.dtype = torch.float64, **settings: Any) -> Tensor:
    """The tensors after all rounds, of clients that have as many samples."""
    optimiser, x = OuterOptimiser(**settings).made(), torch.ones(WIDTH, dtype=dtype)
    for moves in updates(dtype):
        sent = [Adapter(version=0, samples=4, tensors={NAME: x + move}) for move in moves]
        x = optimiser.step({NAME: x}, weighted_mean(sent))[NAME]
    return x


def test_sgd_with_rate_1_is_the_mean_of_the_clients() -> None:
    x = torch.ones(WIDTH)
    for moves in updates(torch.float32):
        x = x + sum(moves, torch.zeros(WIDTH)) / CLIENTS
    torch.testing.assert_close(
        after(torch.float32, outer_optimiser="sgd", outer_lr=1.0), x, rtol=1e-6, atol=1e-6
    )


def test_sgd_on_single_sgd_steps_is_data_parallel_sgd() -> None:
    """Least squares, each client with its own rows: one inner step of SGD, then outer SGD with rate 1."""
    chance = torch.Generator().manual_seed(1)
    rows = torch.randn(CLIENTS, 5, WIDTH, generator=chance, dtype=torch.float64)
    wanted = torch.randn(CLIENTS, 5, generator=chance, dtype=torch.float64)

    def stepped(x: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
        parameter = torch.nn.Parameter(x.clone())
        (inputs @ parameter - outputs).square().mean().backward()
        torch.optim.SGD([parameter], lr=0.1).step()
        return parameter.detach()

    outer = OuterOptimiser(outer_optimiser="sgd", outer_lr=1.0).made()
    local = together = torch.zeros(WIDTH, dtype=torch.float64)
    for _ in range(ROUNDS):
        sent = [
            Adapter(version=0, samples=5, tensors={NAME: stepped(local, *own)})
            for own in zip(rows, wanted, strict=True)
        ]
        local = outer.step({NAME: local}, weighted_mean(sent))[NAME]
        together = stepped(together, rows.flatten(0, 1), wanted.flatten())
    torch.testing.assert_close(local, together, rtol=1e-12, atol=1e-12)


def test_nesterov_is_torchs_to_the_last_bit() -> None:
    outer = OuterOptimiser(outer_lr=0.7, outer_momentum=0.8).made()
    x = torch.nn.Parameter(torch.ones(WIDTH))
    optimiser = torch.optim.SGD([x], lr=0.7, momentum=0.8, nesterov=True)
    for moves in updates(torch.float32):
        before = x.detach().clone()
        mean = before + moves[0]
        x.grad = before - mean
        optimiser.step()
        assert torch.equal(outer.step({NAME: before}, {NAME: mean})[NAME], x.detach())


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_nesterov_delayed_by_one_update_is_nesterov(share: float) -> None:
    delayed = after(torch.float32, outer_optimiser="delayed-nesterov", outer_share=share)
    torch.testing.assert_close(delayed, after(torch.float32), rtol=1e-6, atol=1e-6)


def test_delayed_nesterov_follows_the_algorithm() -> None:
    lr, beta, every, share = 0.4, 0.9, 3, 0.2
    x, m, b = torch.ones(WIDTH).double(), torch.zeros(WIDTH).double(), torch.zeros(WIDTH).double()
    for t, moves in enumerate(updates(), start=1):
        d = -sum(moves, torch.zeros(WIDTH).double()) / CLIENTS
        b = b + d
        if t % every == 0:
            m, b = beta * m + b / every, torch.zeros(WIDTH).double()
            x = x - lr * ((1 - share * every + share) * beta * m + d / every)
        else:
            x = x - lr * (share * beta * m + d / every)
    found = after(
        outer_optimiser="delayed-nesterov",
        outer_lr=lr,
        outer_momentum=beta,
        outer_every=every,
        outer_share=share,
    )
    torch.testing.assert_close(found, x, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "nesterov", "delayed-nesterov", "adam"])
def test_a_restarted_server_continues_its_outer_optimiser(kind: str) -> None:
    every = {"outer_every": 3} if kind == "delayed-nesterov" else {}
    settings, start = FederationConfig(clients=1), Start(tensors={NAME: torch.ones(WIDTH)})

    def averager() -> Averager:
        return Averager(settings, start, optimiser=OuterOptimiser(outer_optimiser=kind, **every).made())

    unbroken, anew = averager(), averager()
    for moves in updates(torch.float32):
        restored = averager()
        restored.restore(anew.state())
        anew = restored
        for made in (unbroken, anew):
            made.receive(Adapter(version=0, samples=1, tensors={NAME: moves[0]}))
            made.end_round()
    assert torch.equal(anew.tensors[NAME], unbroken.tensors[NAME])


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"outer_optimiser": "nesterow"},
            "'nesterow'; did you mean 'nesterov'",
        ),
        ({"outer_lr": 0.0}, "method.outer_lr must be above 0.0, got 0.0"),
        ({"outer_momentum": 1.0}, r"method.outer_momentum must lie in \(0, 1\), got 1.0"),
        (
            {"outer_optimiser": "delayed-nesterov", "outer_every": 2, "outer_share": 0.6},
            r"method.outer_share must lie in \[0, 1 / 2\] with method.outer_every 2, got 0.6",
        ),
        (
            {"outer_every": 2},
            "outer_every is read only with .* 'delayed-nesterov': leave it at 1, got 2",
        ),
        (
            {"outer_optimiser": "sgd", "outer_momentum": 0.5},
            "method.outer_momentum is read only with .* 'nesterov' and 'delayed-nesterov': leave it at 0.9",
        ),
    ],
)
def test_an_outer_setting_out_of_range_or_unread_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        OuterOptimiser(**settings)
