"""Averages that some clients cannot spoil, and what they are where nobody tries."""

from typing import Any

import pytest
import torch

from splitfl.config import FederationConfig
from splitfl.core.messages import Adapter
from splitfl.federation.averager import Averager, Start, needs_individual_updates
from splitfl.federation.robust import clipped, median, trimmed_mean

NAME = "classifier.weight"


def says(*values: float, samples: int = 1) -> Adapter:
    return Adapter(version=0, samples=samples, tensors={NAME: torch.tensor(values)})


def test_the_median_is_taken_number_by_number() -> None:
    odd = median([says(1.0, 5.0), says(2.0, 4.0), says(9.0, -9.0)])
    assert odd[NAME].tolist() == [2.0, 4.0]
    even = median([says(1.0), says(2.0), says(4.0), says(100.0)])
    assert even[NAME].tolist() == [3.0]


def test_a_trimmed_mean_leaves_out_as_many_on_both_sides() -> None:
    five = [says(float(value)) for value in (-100, 1, 2, 6, 100)]
    assert trimmed_mean(five, 0.2)[NAME].tolist() == [3.0]
    assert trimmed_mean(five, 0.4)[NAME].tolist() == [2.0]


@pytest.mark.parametrize("robust", ["median", "trimmed-mean"])
def test_sign_flips_of_a_fifth_of_the_clients_do_not_turn_the_average(robust: str) -> None:
    settings = FederationConfig(clients=20, robust=robust)
    truth = torch.linspace(-1.0, 1.0, 101)
    chance = torch.Generator().manual_seed(0)
    found = {}
    for label, chosen in (("robust", settings), ("mean", FederationConfig(clients=20))):
        made = Averager(chosen)
        for client in range(20):
            own = truth + 0.01 * torch.randn(101, generator=chance)
            value = -10 * own if client < 4 else own
            made.receive(Adapter(version=0, samples=1, tensors={NAME: value}))
        made.end_round()
        found[label] = torch.cosine_similarity(made.tensors[NAME], truth, dim=0)
    assert found["robust"] > 0.99
    assert found["mean"] < -0.99


def test_a_clipped_client_moves_no_farther_than_it_may() -> None:
    held = {NAME: torch.tensor([1.0, 1.0])}
    near, far = clipped([says(1.0, 1.5), says(31.0, 41.0)], held, 5.0)
    assert near.tensors[NAME].tolist() == [1.0, 1.5]
    assert far.tensors[NAME].tolist() == [4.0, 5.0]


def test_clipping_starts_from_where_the_clients_began() -> None:
    start = Start(tensors={NAME: torch.tensor([10.0])})
    made = Averager(FederationConfig(robust="clip", clip_norm=0.5), start)
    for wanted in (9.5, 9.0):
        made.receive(says(-50.0))
        made.end_round()
        assert made.tensors[NAME].tolist() == [wanted]


@pytest.mark.parametrize(
    ("settings", "needs"),
    [
        ({}, False),
        ({"aggregator": "mean", "server_optimiser": "adam"}, False),
        ({"aggregator": "fedex"}, True),
        ({"aggregator": "stack"}, True),
        ({"aggregator": "svd"}, True),
        ({"robust": "median"}, True),
        ({"robust": "clip"}, True),
        ({"client_ranks": (4, 2, 1)}, True),
    ],
    ids=str,
)
def test_aggregators_that_need_separate_updates_declare_it(settings: dict[str, Any], needs: bool) -> None:
    assert needs_individual_updates(FederationConfig(**settings)) is needs
