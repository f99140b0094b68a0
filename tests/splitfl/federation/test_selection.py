"""Who takes part in a round is drawn from the seed, and as many as the settings say."""

from itertools import pairwise
from pathlib import Path

import pytest

from splitfl.config import FaultToleranceConfig
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


def test_clients_leave_and_return_at_their_rates_and_only_present_ones_are_selected() -> None:
    churn = {"leave_rate": 0.1, "return_rate": 0.3}
    everyone = Selection(seed=3, clients=2000, select=0, **churn)
    present = [{c for c in range(2000) if everyone.takes_part(c, at)} for at in range(40)]
    assert len(present[0]) == 2000
    later = [len(one) / 2000 for one in present[20:]]
    assert abs(sum(later) / len(later) - 0.75) < 0.01  # 0.3 / (0.1 + 0.3)
    leaving = sum(len(one - after) for one, after in pairwise(present))
    assert abs(leaving / sum(map(len, present[:-1])) - 0.1) < 0.01
    few = Selection(seed=3, clients=2000, select=50, **churn)
    for at in (39, 5, 20):  # also of earlier rounds
        chosen = {c for c in range(2000) if few.takes_part(c, at)}
        assert len(chosen) == 50
        assert chosen <= present[at]


def test_a_round_has_fewer_clients_where_fewer_are_present() -> None:
    selection = Selection(seed=3, clients=4, select=3, leave_rate=1.0, return_rate=0.0)
    assert [sum(selection.takes_part(c, at) for c in range(4)) for at in range(3)] == [3, 0, 0]


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ({"leave_rate": 1.5}, r"fault_tolerance\.leave_rate must lie in \[0, 1\], got 1\.5"),
        ({"leave_rate": 0.1, "return_rate": -0.1}, r"fault_tolerance\.return_rate must lie in \[0, 1\]"),
        ({"return_rate": 0.5}, r"fault_tolerance\.return_rate is read with .*leave_rate above 0 only"),
    ],
)
def test_rates_of_churn_are_checked(rates: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FaultToleranceConfig(**rates)  # type: ignore[arg-type]
