"""Clients that share their modules train to the same bits as clients that have modules of their own."""

from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from splitfl.setup.shared_clients import SharedClients
from tests.quick import quick
from tests.splitfl import shown, toy
from tests.splitfl.driver import Played, play

# torch itself compiles what forward mode needs the first time it is used, in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

place = toy.place(is_base=True, rows=60)

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "dropout": {"adapter": {side: {"rank": 2, "dropout": 0.3} for side in ("head", "body")}},
    "residuals": {
        "federation": {"clients": 3, "rounds": 3, "local_steps": 2, "aggregator": "fedex"},
        "adapter": {"head": {"rank": 2}, "body": {"rank": 2}},
    },
    "cuts": {
        "federation": {"clients": 3, "rounds": 2, "local_steps": 2, "client_cuts": [1, 3, 1]},
        "adapter": {"head": {"rank": 2}, "body": {"rank": 2}},
        "partition": {"cut": 1},
    },
    "ranks": {
        "federation": {"clients": 3, "rounds": 2, "local_steps": 2, "client_ranks": [1, 2, 1]},
        "partition": {"cut": 2},
    },
    "full": {"adapter": {"head": {"kind": "full"}, "body": {"kind": "full"}}},
    "asynchronous": {
        "federation": {
            "clients": 3,
            "rounds": 2,
            "local_steps": 2,
            "schedule": "anarchic",
            "aggregator": "mean",
        }
    },
}


def assert_equal(own: Played, shared: Played) -> None:
    assert own.events == shared.events
    assert own.trained.keys() == shared.trained.keys()
    for name, value in own.trained.items():
        assert torch.equal(value, shared.trained[name]), name
    for one, other in zip(own.nodes, shared.nodes, strict=True):
        state, found = one._method.state(), other._method.state()
        assert state.keys() == found.keys()
        for name, value in state.items():
            assert torch.equal(value, found[name]), name


@pytest.mark.parametrize("name", quick(METHODS, "cse-fsl"))
def test_every_method_has_the_bits_of_clients_with_modules_of_their_own(
    name: str, place: Path, tmp_path: Path
) -> None:
    site = Experiment.of(toy.config(place, method={"name": name}))
    assert_equal(play(site, tmp_path), play(site, tmp_path, is_shared=True))


@pytest.mark.parametrize("case", quick(SETTINGS, "residuals", "cuts"))
def test_what_differs_between_clients_stays_their_own(case: str, place: Path, tmp_path: Path) -> None:
    site = Experiment.of(toy.config(place, **SETTINGS[case]))
    assert_equal(play(site, tmp_path), play(site, tmp_path, is_shared=True))


@pytest.mark.slow
def test_batch_norms_keep_the_statistics_of_each_client(tmp_path: Path) -> None:
    site = Experiment.of(shown.config(tmp_path, shown.RESNET, method={"name": "sfl-v2"}))
    assert_equal(play(site, tmp_path), play(site, tmp_path, is_shared=True))


def test_a_further_client_of_the_same_cut_loads_no_tensor(place: Path) -> None:
    config = toy.config(place, **SETTINGS["cuts"])
    clients = SharedClients(Experiment.of(config))
    built = [clients.method(client)._build() for client in range(3)]  # type: ignore[attr-defined]
    shallow, deep, further = (used[0][0].piece for _, used in built)
    assert further is shallow
    frozen = {name: one for name, one in shallow.model.named_parameters() if not one.requires_grad}
    in_deep = dict(deep.model.named_parameters())
    assert frozen
    assert all(in_deep[name] is value for name, value in frozen.items())
