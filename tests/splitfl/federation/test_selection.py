"""Who takes part in a round is drawn from the seed, and as many as the settings say."""

from pathlib import Path

import pytest

from splitfl.core.errors import ConfigError
from splitfl.federation.selection import Selection
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy


def test_so_many_take_part_in_every_round_and_not_always_the_same() -> None:
    selection = Selection(seed=3, clients=5, select=2)
    rounds = [frozenset(c for c in range(5) if selection.takes_part(c, at)) for at in range(20)]
    assert {len(chosen) for chosen in rounds} == {2}
    assert frozenset.union(*rounds) == set(range(5))


def test_all_clients_take_part_by_default() -> None:
    assert all(Selection(seed=3, clients=5, select=0).takes_part(client, 1) for client in range(5))


def test_more_than_there_are_cannot_be_selected(tmp_path: Path) -> None:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv", rows=60)
    config = toy.config(tmp_path, federation={"clients": 2}, fault_tolerance={"clients_per_round": 3})
    with pytest.raises(
        ConfigError, match=r"fault_tolerance\.clients_per_round must be at most federation\.clients, 2, got 3"
    ):
        Experiment.of(config)
