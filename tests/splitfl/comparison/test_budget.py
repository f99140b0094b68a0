"""What may be spent, and the rounds that it allows."""

from pathlib import Path

import pytest

from splitfl.comparison.budget import Budget, parse_budget, plan_within
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment import Experiment
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import play

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

LINK = {"up": {"rate_bps": 1e6, "delay_s": 0.005}, "down": {"rate_bps": 2e6, "delay_s": 0.005}}


@pytest.mark.parametrize(
    ("text", "kind", "most"),
    [
        ("bytes=50MB", "bytes", 50e6),
        ("bytes=1.5 KiB", "bytes", 1536.0),
        ("airtime=2min", "airtime", 120.0),
        ("energy=5mJ", "energy", 0.005),
        ("client_memory=200MB", "client_memory", 200e6),
        ("steps=300", "steps", 300.0),
    ],
)
def test_a_budget_is_a_kind_an_amount_and_a_unit(text: str, kind: str, most: float) -> None:
    got = parse_budget(text)
    assert got.kind == kind
    assert got.limit == pytest.approx(most)


@pytest.mark.parametrize("text", ["bytes", "bytes=", "bytes=50", "bytes=0MB", "bytes=-5MB", "steps=3s"])
def test_an_amount_that_means_nothing_is_refused_with_its_units(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a number > 0 with a unit \(.*\), got"):
        parse_budget(text)


def test_an_unknown_budget_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'airtime'"):
        parse_budget("airtme=3s")


@pytest.mark.parametrize(
    "kind", ["airtime", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("bytes", "energy"))]
)
def test_a_plan_is_the_most_rounds_that_the_budget_allows(kind: str, config: RunConfig) -> None:
    three = plan_within(config, [Budget(kind="steps", limit=9)], 50)
    assert (three.rounds, three.is_capped) == (3, False)
    total = three.dry_run.ledger.total()
    cost = {"bytes": total.payload_bytes, "airtime": total.airtime_s, "energy": total.energy_j}[kind]
    assert cost > 0
    assert plan_within(config, [Budget(kind=kind, limit=cost * 1.0001)], 50).rounds == 3
    assert plan_within(config, [Budget(kind=kind, limit=cost * 0.9999)], 50).rounds == 2


@pytest.mark.slow
def test_a_plan_predicts_the_costs_of_the_run_to_the_byte(config: RunConfig, tmp_path: Path) -> None:
    plan = plan_within(config, [], config.federation.rounds)
    ledger = play(Experiment.of(config), tmp_path).ledger
    for way in ("up", "down"):
        assert plan.dry_run.ledger.total(way) == ledger.total(way)
    assert plan.dry_run.ledger.total_flops("client") == ledger.total_flops("client")


@pytest.mark.slow
def test_a_plan_ends_at_the_most_rounds_and_says_so(config: RunConfig) -> None:
    plan = plan_within(config, [Budget(kind="bytes", limit=1e12)], 3)
    assert (plan.rounds, plan.is_capped) == (3, True)


def test_a_budget_for_less_than_one_round_is_refused(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match="one round has 3 steps, which exceeds the budget: steps of 2"):
        plan_within(config, [Budget(kind="steps", limit=2)], 5)
    with pytest.raises(ConfigError, match=r"one round exceeds the budget: bytes of 1\.23 kB"):
        plan_within(config, [Budget(kind="bytes", limit=1234)], 5)
    with pytest.raises(ConfigError, match=r"a client needs .* which exceeds the client memory of 1\.23 kB"):
        plan_within(config, [Budget(kind="client_memory", limit=1234)], 5)


@pytest.mark.parametrize("kind", quick(["airtime", "energy"], "airtime"))
def test_a_link_without_a_rate_has_no_airtime_to_spend(kind: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match=f"no message on this link costs {kind}: give .link. a rate"):
        plan_within(toy.config(folder), [Budget(kind=kind, limit=1.0)], 5)
