"""The inner optimiser against torch, and its learning rate over the batches of the whole run."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.core.errors import ConfigError
from splitfl.methods.pretraining.inner_loop import InnerLoop, inner_optimiser, over_batches
from tests.splitfl import toy


def config(**train: Any) -> Any:
    return toy.config(Path("nowhere"), method={"name": "diloco"}, federation={"rounds": 5}, train=train)


def test_weight_decay_is_of_matrices_only() -> None:
    chance = torch.Generator().manual_seed(0)
    ours = {name: torch.nn.Parameter(torch.randn(*shape, generator=chance)) for name, shape in SHAPES.items()}
    theirs = {name: torch.nn.Parameter(value.detach().clone()) for name, value in ours.items()}
    optimiser = inner_optimiser(ours, config(head_lr=0.1, weight_decay=0.1, clip_grad_norm=1.0), (1, 1))
    groups = [
        {"params": [theirs["matrix"], theirs["kernel"]], "weight_decay": 0.1},
        {"params": [theirs["bias"]], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95))
    for _ in range(3):
        for name, value in ours.items():
            value.grad = torch.randn(value.shape, generator=chance)
            theirs[name].grad = value.grad.clone()
        torch.nn.utils.clip_grad_norm_(theirs.values(), 1.0)
        adamw.step()
        optimiser.step()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


SHAPES = {"matrix": (3, 4), "bias": (4,), "kernel": (2, 3, 3)}


def test_the_rate_follows_the_batches_of_all_clients() -> None:
    """Three clients with 4, 2 and 3 steps in each of 5 rounds: 45 batches, 15 steps of one process."""
    factor = over_batches(config(head_schedule="cosine", warmup_steps=2), (4, 2, 3))
    for batch in range(45):
        fall = (1.0 + math.cos(math.pi * batch / 45)) / 2
        warmup = 0.5 if batch < 3 else 1.0
        assert factor(batch) == pytest.approx(warmup * (0.1 + 0.9 * fall), rel=1e-12)
    assert factor(60) == factor(45) == pytest.approx(0.1)


def test_a_constant_rate_is_exact() -> None:
    factor = over_batches(config(), (4, 2, 3))
    assert {factor(batch) for batch in range(50)} == {1.0}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"betas": (0.9,)}, r"method.betas must be two numbers in \[0, 1\), got \[0.9\]"),
        ({"betas": (0.9, 1.0)}, r"method.betas must be two numbers in \[0, 1\), got \[0.9, 1.0\]"),
        ({"min_lr_rate": 1.5}, r"method.min_lr_rate must lie in \[0, 1\], got 1.5"),
    ],
)
def test_an_inner_setting_out_of_range_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        InnerLoop(**settings)
