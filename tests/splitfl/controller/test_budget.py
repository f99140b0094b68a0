"""The controller's choices, their reasons, and what it refuses."""

from pathlib import Path
from typing import Any

import pytest

from splitfl.config import RunConfig
from splitfl.controller.budget import resolved
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict
from tests.splitfl import toy
from tests.splitfl.driver import play

SIDES = {"head": {"rank": 4}, "body": {"rank": 4}}
UNEQUAL = {"clients": 3, "aggregator": "mean", "client_flops": [1e11, 3e8, 1e9], "partition": "iid"}
LINK = {"up": {"rate_bps": 1e8}, "down": {"rate_bps": 1e8}}


place = toy.place(is_base=True, rows=40)


def asked(place: Path, *, federation: Any = None, method: str = "sfl-v2", **auto: Any) -> RunConfig:
    auto = auto if {"cuts", "ranks", "codecs"} & auto.keys() else {"cuts": [1, 2, 3], **auto}
    tables: dict[str, Any] = {
        "method": {"name": method},
        "federation": {**UNEQUAL, **(federation or {})},
        "adapter": SIDES,
        "link": LINK,
        "server": {"device": "cpu", "flops": 1e9},
        "auto": {"budget": "seconds", "limit": 10.0, **auto},
    }
    return toy.config(place, **tables)


def test_nothing_is_touched_where_nothing_is_left_to_it(place: Path) -> None:
    config = toy.config(place)
    assert resolved(config) is config


def test_fast_clients_take_more_of_the_model_and_slow_ones_less(place: Path, tmp_path: Path) -> None:
    config = resolved(asked(place))
    assert config.federation.client_cuts == (3, 1, 1)
    assert config.partition.cut == 1
    assert config.auto.budget == "none"
    assert [reason.partition(":")[0] for reason in config.auto.chosen] == ["client 0", "client 1", "client 2"]
    assert "sfl-v2 with cut 3, rank 4, the fastest of 3 that fit out of 3" in config.auto.chosen[0]
    assert resolved(config) is config
    assert from_dict(as_dict(config)) == config
    played = play(Experiment.of(config), tmp_path)
    assert len(played.losses) == 18


@pytest.mark.slow
def test_a_client_with_little_memory_gets_a_plan_that_fits(place: Path) -> None:
    free = resolved(asked(place))
    room = run_dry(Experiment.of(free)).clients[0].total_bytes
    tight = resolved(asked(place, client_memory_bytes=[room - 1, 2 * room, 2 * room]))
    assert tight.federation.client_cuts[:1] < free.federation.client_cuts[:1]
    assert run_dry(Experiment.of(tight)).clients[0].total_bytes < room


@pytest.mark.slow
def test_the_largest_rank_within_the_bytes_of_a_round_is_taken(place: Path) -> None:
    spent = {}
    for rank in (1, 2, 4):
        federation = {**UNEQUAL, "client_ranks": [rank] * 3}
        ledger = run_dry(
            Experiment.of(toy.config(place, federation=federation, adapter=SIDES, link=LINK))
        ).ledger
        spent[rank] = sum(ledger.traffic[1, 0, way].payload_bytes for way in ("up", "down"))
    most = max(spent[2], spent[4] - 1)
    config = resolved(asked(place, ranks=[1, 2, 4], budget="bytes", limit=float(most)))
    assert config.federation.client_ranks[0] == 2
    assert "rank 2, the largest of 2 that fit out of 3" in config.auto.chosen[0]


@pytest.mark.slow
def test_a_method_with_one_cut_for_all_is_given_one(place: Path) -> None:
    config = resolved(asked(place, method="hybrid"))
    assert config.federation.client_cuts == ()
    assert config.partition.cut in (1, 2, 3)
    assert len(config.auto.chosen) == 3


@pytest.mark.slow
def test_the_first_method_that_fits_everybody_is_taken(place: Path) -> None:
    config = resolved(asked(place, methods=["sfl-v2", "hybrid"], client_memory_bytes=_only_hybrid(place)))
    assert config.method.name == "hybrid"
    assert all("hybrid with cut 1" in reason for reason in config.auto.chosen)


def _only_hybrid(place: Path) -> list[int]:
    """Room for `hybrid`'s smallest head, and not for `sfl-v2`'s."""
    tables: dict[str, Any] = {"adapter": SIDES, "partition": {"cut": 1}}
    tables["federation"] = {"clients": 3, "aggregator": "mean", "partition": "iid"}
    needs = {
        name: run_dry(Experiment.of(toy.config(place, method={"name": name}, **tables))).client.total_bytes
        for name in ("sfl-v2", "hybrid")
    }
    assert needs["hybrid"] < needs["sfl-v2"]
    return [(needs["hybrid"] + needs["sfl-v2"]) // 2] * 3


@pytest.mark.parametrize(
    ("auto", "complaint"),
    [
        (
            {"limit": 1e-6},
            r"sfl-v2: no cut fits client 0: the cheapest is sfl-v2 with cut \d, .* against 1e-06 s",
        ),
        pytest.param({"client_memory_bytes": [1, 1, 1]}, "no cut fits client 0", marks=pytest.mark.slow),
        ({"methods": ["sfl-v3"]}, "unknown auto.methods 'sfl-v3'; did you mean 'sfl-v"),
        ({"client_memory_bytes": [10]}, "a value for each of the 3 clients, got 1"),
    ],
)
def test_an_impossible_budget_is_refused_with_the_least_possible_one(
    place: Path, auto: Any, complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        resolved(asked(place, **auto))


@pytest.mark.parametrize(
    ("auto", "complaint"),
    [
        ({"budget": "euros"}, "unknown auto.budget 'euros'"),
        ({"limit": 0.0}, "auto.limit must be above 0.0"),
        ({"codecs": ["int2"]}, "unknown auto.codecs 'int2'"),
        ({"cuts": [0]}, "auto.cuts must be at least 1, got 0"),
        ({"budget": "none", "every": 1}, "auto.every needs an auto.budget: seconds, bytes or joules"),
        ({"speed": "measured"}, "'measured' needs auto.every of at least 1"),
        ({"speed": "guessed"}, "unknown auto.speed 'guessed'"),
    ],
)
def test_settings_of_the_controller_are_checked(place: Path, auto: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        asked(place, **auto)


def test_a_run_that_was_not_decided_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"auto.budget must be resolved before a run"):
        Experiment.of(asked(place))
