"""Ways of aggregation against the mean of the clients' products, with equal ranks and with 8, 4 and 2."""

import dataclasses

import pytest
import torch
from torch import Tensor

from splitfl.adapters.residuals import RESIDUAL_A, RESIDUAL_B, A, B, compressed, extended, folded
from splitfl.config import FederationConfig
from splitfl.core.messages import Adapter
from splitfl.federation.aggregators import AGGREGATORS
from splitfl.federation.averager import Averager, Start

IN, OUT, RANKS = 40, 32, (8, 4, 2)
NAME = "layer.query"


def factors(rank: int, seed: int) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    shapes = {NAME + A: (rank, IN), NAME + B: (OUT, rank)}
    return {name: torch.randn(shape, generator=chance) for name, shape in shapes.items()}


def cut_to(rank: int, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {NAME + A: tensors[NAME + A][:rank], NAME + B: tensors[NAME + B][:, :rank]}


def product(tensors: dict[str, Tensor]) -> Tensor:
    """All that these tensors add to their module's weight, residual included, float64."""
    whole = folded({name: value.double() for name, value in tensors.items()})
    return whole[NAME + B] @ whole[NAME + A]


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


KEPT = {"ffa": A, "rolora": A}


def updates(aggregator: str, ranks: tuple[int, ...]) -> list[Adapter]:
    """What clients have after a round: random, but for the factor that nobody trains in it."""
    common = factors(max(ranks), 99)
    found = []
    for client, rank in enumerate(ranks):
        tensors = factors(rank, client)
        if aggregator in KEPT:
            tensors[NAME + KEPT[aggregator]] = cut_to(rank, common)[NAME + KEPT[aggregator]]
        found.append(Adapter(version=0, samples=client + 1, tensors=tensors))
    return found


def averager(aggregator: str, ranks: tuple[int, ...]) -> Averager:
    start = Start(tensors=factors(max(ranks), 99), ranked=frozenset(factors(1, 0)), ranks=ranks)
    return Averager(FederationConfig(aggregator=aggregator, clients=len(ranks), client_ranks=ranks), start)


def mean_of_products(updates: list[Adapter]) -> Tensor:
    samples = sum(one.samples for one in updates)
    products = [product(dict(one.tensors)) * (one.samples / samples) for one in updates]
    return torch.stack(products).sum(0)


def aggregated(aggregator: str, ranks: tuple[int, ...]) -> tuple[Averager, list[Adapter]]:
    made, came = averager(aggregator, ranks), updates(aggregator, ranks)
    for update in came:
        sent = {
            name: value for name, value in update.tensors.items() if name != NAME + KEPT.get(aggregator, "-")
        }
        made.receive(dataclasses.replace(update, tensors=sent))
    made.end_round()
    return made, came


def total(made: Averager) -> Tensor:
    """With the A that nobody trained, and the B = 0 that a restart leaves."""
    first = factors(8 if NAME + B in made.tensors and made.tensors[NAME + B].shape[1] == 8 else 4, 99)
    return product({**first, NAME + B: torch.zeros_like(first[NAME + B]), **made.tensors})


@pytest.mark.parametrize("ranks", [(4, 4, 4), RANKS], ids=str)
@pytest.mark.parametrize("aggregator", ["stack", "fedex", "ffa", "rolora"])
def test_an_exact_aggregation_is_the_mean_of_products(aggregator: str, ranks: tuple[int, ...]) -> None:
    made, came = aggregated(aggregator, ranks)
    assert AGGREGATORS[aggregator].is_exact
    assert relative(total(made), mean_of_products(came)) < 1e-6


@pytest.mark.parametrize("ranks", [(4, 4, 4), RANKS], ids=str)
def test_the_plain_mean_is_not(ranks: tuple[int, ...]) -> None:
    made, came = aggregated("mean", ranks)
    assert not AGGREGATORS["mean"].is_exact
    assert relative(total(made), mean_of_products(came)) > 0.5


def test_svd_is_the_best_of_its_rank() -> None:
    """Eckart and Young: against torch's own decomposition of the dense mean."""
    made, came = aggregated("svd", RANKS)
    u, values, v = torch.linalg.svd(mean_of_products(came))
    best = u[:, :8] @ torch.diag(values[:8]) @ v[:8]
    assert relative(total(made), best) < 1e-6
    small = made.since(0, client=2)
    assert small is not None
    assert relative(product(dict(small.tensors)), u[:, :2] @ torch.diag(values[:2]) @ v[:2]) < 1e-6


@pytest.mark.parametrize(
    ("aggregator", "ranks", "numbers"),
    [
        ("stack", (4, 4, 4), 12 * (IN + OUT)),  # sum of r_k
        ("stack", RANKS, 14 * (IN + OUT)),
        ("fedex", (4, 4, 4), 4 * (IN + OUT) + 2 * 4 * (IN + OUT)),  # A, B, and a residual of (K - 1) r
        ("svd", (4, 4, 4), 4 * (IN + OUT)),
        ("mean", (4, 4, 4), 4 * (IN + OUT)),
    ],
)
def test_the_broadcast_state_follows_the_formula(
    aggregator: str, ranks: tuple[int, ...], numbers: int
) -> None:
    made, _ = aggregated(aggregator, ranks)
    news = made.since(0)
    assert news is not None
    assert sum(tensor.nbytes for tensor in news.tensors.values()) == 4 * numbers


def test_a_small_client_is_sent_the_rows_that_it_holds() -> None:
    made, _ = aggregated("mean", RANKS)
    for client, rank in enumerate(RANKS):
        news = made.since(0, client)
        assert news is not None
        assert news.tensors[NAME + A].shape == (rank, IN)
        assert torch.equal(news.tensors[NAME + B], made.tensors[NAME + B][:, :rank])


@pytest.mark.parametrize("aggregator", ["stack", "fedex"])
def test_a_client_that_missed_rounds_is_sent_all_residuals_since(aggregator: str) -> None:
    made = averager(aggregator, (2, 2))
    for seed in (0, 10):
        for client in range(2):
            made.receive(Adapter(version=0, samples=1, tensors=factors(2, seed + client)))
        made.end_round()
    names = (NAME + RESIDUAL_A, NAME + RESIDUAL_B)
    steady: dict[str, Tensor] = {}
    for version in (0, 1):
        news = Averager(FederationConfig(aggregator=aggregator))
        news.restore(made.state())
        heard = news.since(version)
        assert heard is not None
        if version:
            steady = first_of(made, 1)
            steady = extended(steady, {name: heard.tensors[name] for name in names})
    behind = made.since(0)
    assert behind is not None
    for name in names:
        assert torch.equal(behind.tensors[name], steady[name])
        assert torch.equal(made.tensors[name], steady[name])


def first_of(made: Averager, version: int) -> dict[str, Tensor]:
    """The residual of one version, as it stands in the state."""
    prefix = f"residual.{version}."
    return {n.removeprefix(prefix): value for n, value in made.state().items() if n.startswith(prefix)}


def test_a_residual_never_has_more_rank_than_its_matrix() -> None:
    held: dict[str, Tensor] = {}
    wanted = torch.zeros(OUT, IN, dtype=torch.float64)
    for seed in range(8):
        drawn = factors(8, seed)
        more = {NAME + RESIDUAL_A: drawn[NAME + A], NAME + RESIDUAL_B: drawn[NAME + B]}
        held = extended(held, more)
        wanted += product(drawn)
    assert held[NAME + RESIDUAL_A].shape == (OUT, IN)
    assert relative(held[NAME + RESIDUAL_B].double() @ held[NAME + RESIDUAL_A].double(), wanted) < 1e-5


def test_compression_finds_the_rank_that_there_is() -> None:
    drawn = factors(3, 0)
    twice = torch.cat([drawn[NAME + A], drawn[NAME + A]]), torch.cat([drawn[NAME + B]] * 2, dim=1)
    first, second = compressed(*twice)
    assert first.shape == (3, IN)
    assert relative((second @ first).double(), 2 * product(drawn)) < 1e-6
    nothing = compressed(torch.zeros(2, IN), torch.zeros(OUT, 2))
    assert nothing[0].shape == (1, IN)
    assert not nothing[1].any()
