"""The exact aggregators give the mean of what the adapters do; the plain mean does not."""

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor

from splitfl.adapters import loha
from splitfl.adapters.registry import ADAPTERS
from splitfl.config import FederationConfig
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Adapter
from splitfl.federation.aggregators import AGGREGATORS, EXACT_MEANS, aggregator, weighted_mean
from splitfl.federation.averager import Averager

A, B, HEAD = "x.lora_A.weight", "x.lora_B.weight", "classifier.weight"
WIDTH, RANK = 64, 8


def update(seed: int, *, version: int = 0, samples: int = 1, **tensors: Tensor) -> Adapter:
    """A client's adapter with random factors, but for those given."""
    chance = torch.Generator().manual_seed(seed)
    own = {A: torch.randn(RANK, WIDTH, generator=chance), B: torch.randn(WIDTH, RANK, generator=chance)}
    named = {"A": A, "B": B}
    return Adapter(
        version=version, samples=samples, tensors={**own, **{named[k]: v for k, v in tensors.items()}}
    )


def product_error(updates: list[Adapter]) -> float:
    """How far the product of the means is from the mean of the products, relative to the latter."""
    mean = weighted_mean(updates)
    samples = sum(one.samples for one in updates)
    wanted = sum(
        one.tensors[B].double() @ one.tensors[A].double() * (one.samples / samples) for one in updates
    )
    assert isinstance(wanted, Tensor)
    got = mean[B].double() @ mean[A].double()
    return ((got - wanted).norm() / wanted.norm()).item()


@pytest.mark.parametrize("held_in_common", ["A", "B"])
def test_with_one_factor_in_common_the_mean_is_exact(held_in_common: str) -> None:
    shared = update(99).tensors[A if held_in_common == "A" else B]
    updates = [update(seed, samples=seed + 1, **{held_in_common: shared}) for seed in range(5)]
    assert product_error(updates) < 1e-6


def test_with_unlike_factors_the_plain_mean_is_far_off() -> None:
    # METHODS.md: 0.72 where every client began with an A of its own, 0.06 where all began alike.
    assert product_error([update(seed) for seed in range(3)]) > 0.5
    start = update(99).tensors[A]
    near = [update(seed, A=start + 0.25 * update(seed).tensors[A]) for seed in range(3)]
    assert 0.02 < product_error(near) < 0.5


def trained_by(name: str, round_index: int) -> set[str]:
    chosen = aggregator(name)
    return {key for key in (A, B, HEAD) if chosen.trains(key, round_index)}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_tensors_other_than_factors_are_always_trained(name: str) -> None:
    assert all(HEAD in trained_by(name, round_index) for round_index in range(4))


@pytest.mark.parametrize(
    "name",
    EXACT_MEANS,
)
def test_an_exact_mean_never_trains_both_factors_in_a_round(name: str) -> None:
    assert all(len(trained_by(name, round_index) & {A, B}) == 1 for round_index in range(4))


def test_ffa_trains_b_and_rolora_b_and_a_in_turn() -> None:
    assert [trained_by("ffa", i) - {HEAD} for i in range(3)] == [{B}, {B}, {B}]
    assert [trained_by("rolora", i) - {HEAD} for i in range(3)] == [{B}, {A}, {B}]
    assert trained_by("mean", 0) == {A, B, HEAD}


LOHA = [f"x{factor}" for factor in loha.FACTORS]


def test_of_loha_one_factor_moves_at_a_time_the_last_in_every_other_round() -> None:
    turns = {
        name: [[one for one in LOHA if aggregator(name).trains(one, i)] for i in range(8)]
        for name in ("rolora", "ffa", "mean")
    }
    w1a, w1b, w2a, w2b = ([one] for one in LOHA)
    assert turns["rolora"] == [w2b, w1a, w2b, w1b, w2b, w2a, w2b, w1a]
    assert turns["ffa"] == [w2b] * 8
    assert turns["mean"] == [LOHA] * 8


@pytest.mark.parametrize("moved", LOHA)
def test_with_three_factors_in_common_the_mean_of_loha_is_exact(moved: str) -> None:
    chance = torch.Generator().manual_seed(0)
    shapes = dict(zip(LOHA, [(WIDTH, 3), (3, WIDTH)] * 2, strict=True))
    common = {name: torch.randn(shape, generator=chance) for name, shape in shapes.items()}
    updates = [
        Adapter(
            version=0,
            samples=samples,
            tensors=common | {moved: torch.randn(shapes[moved], generator=chance)},
        )
        for samples in (1, 2, 5)
    ]

    def change(tensors: Mapping[str, Tensor]) -> Tensor:
        w1a, w1b, w2a, w2b = (tensors[name].double() for name in LOHA)
        return (w1a @ w1b) * (w2a @ w2b)

    wanted = torch.stack([change(one.tensors) * one.samples / 8 for one in updates]).sum(0)
    torch.testing.assert_close(change(weighted_mean(updates)), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("name", AGGREGATORS)
def test_factors_alone_are_always_trained_and_of_the_others_one_in_a_round_of_an_exact_mean(
    name: str, kind: str
) -> None:
    row, factors = AGGREGATORS[name], ADAPTERS[kind].factors
    for i in range(8):
        trained = [ending for ending in factors if aggregator(name).trains(f"x{ending}", i)]
        assert {ending for ending, one in factors.items() if one.role == "alone"} <= set(trained)
        if row.is_exact and row.merge is weighted_mean:
            assert len([ending for ending in trained if factors[ending].role != "alone"]) <= 1


def test_an_unknown_aggregator_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown federation.aggregator 'rolor'; did you mean 'rolora'\?"):
        aggregator("rolor")


def test_the_mean_weighs_by_samples() -> None:
    one, other = update(1, samples=3), update(2, samples=1)
    mean = weighted_mean([one, other])
    assert torch.equal(mean[A], ((3 * one.tensors[A].double() + other.tensors[A].double()) / 4).float())


def test_a_tensor_is_averaged_over_its_holders() -> None:
    one = Adapter(version=0, samples=1, tensors={A: torch.ones(2), B: torch.ones(2)})
    other = Adapter(version=0, samples=3, tensors={A: torch.zeros(2)})
    mean = weighted_mean([one, other])
    assert mean[A].tolist() == [0.25, 0.25]
    assert mean[B].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_mean_of_one_is_itself_to_the_last_bit(dtype: torch.dtype) -> None:
    tensors = {A: torch.randn(50, 50).to(dtype)}
    mean = weighted_mean([Adapter(version=0, samples=7, tensors=tensors)])
    assert torch.equal(mean[A], tensors[A])
    assert mean[A].dtype == dtype


@pytest.fixture
def averager() -> Averager:
    """Two rounds behind it: B changed in the first, A in the second."""
    made = Averager(FederationConfig())
    for key, value in ((B, 1.0), (A, 2.0)):
        made.receive(Adapter(version=0, samples=1, tensors={key: torch.full((2,), value)}))
        made.end_round()
    return made


def test_a_client_is_sent_the_changes_since_its_version(averager: Averager) -> None:
    given: Callable[[int], set[str]] = lambda version: set((averager.since(version) or EMPTY).tensors)  # noqa: E731
    assert [given(version) for version in range(3)] == [{A, B}, {A}, set()]


EMPTY = Adapter(version=0, tensors={})


def test_a_client_that_missed_an_adapter_is_sent_all_of_it_with_the_next(averager: Averager) -> None:
    news = averager.since(0)
    assert news is not None
    assert news.version == 2
    assert {key: value.tolist() for key, value in news.tensors.items()} == {A: [2.0, 2.0], B: [1.0, 1.0]}


def test_an_up_to_date_client_is_sent_nothing(averager: Averager) -> None:
    assert averager.since(2) is None
    assert Averager(FederationConfig()).since(0) is None


def test_a_round_without_updates_changes_nothing(averager: Averager) -> None:
    averager.receive(Adapter(version=2, samples=0, tensors={A: torch.zeros(2)}))
    averager.end_round()
    assert averager.since(2) is None
    assert averager.tensors[A].tolist() == [2.0, 2.0]
