"""Aggregators: which adapter factors clients train in a round, and how their updates are merged.

The mean of products is not the product of means: averaging LoRA's A and B separately gives
mean(B) mean(A), not mean(B A) (relative error 0.06 to 0.74, see FedEx-LoRA, Singhal et
al., ACL'25). Aggregation is exact if all clients share one of the two factors, or if the
products themselves are averaged (see products.py). Factors of other adapter kinds have the
same roles; the mean of a factor that acts alone is exact.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import torch
from torch import Tensor

from splitfl.adapters.registry import kind_of_tensor, role_of
from splitfl.config import one_of
from splitfl.core.messages import Adapter
from splitfl.federation.citations import FEDEX_LORA, FFA_LORA, FLEX_LORA, FLORA, ROLORA
from splitfl.federation.products import fedex, stacked, truncated


class Aggregator(Protocol):
    """Selects the tensors that clients train in a round."""

    def trains(self, name: str, round_index: int) -> bool:
        """Whether clients train and send the tensor of this name in this round."""


class Mean:
    """All tensors are trained in every round."""

    def trains(self, name: str, round_index: int) -> bool:
        return True


class Ffa:
    """A is frozen at its initial value, B is trained: exact (FFA-LoRA, Sun et al., ICLR'24)."""

    def trains(self, name: str, round_index: int) -> bool:
        return role_of(name) != "first"


class Rolora:
    """B is trained in even rounds, A in odd ones: exact (RoLoRA, Chen et al., NeurIPS'24 workshop).

    B comes first because it is initialised to zero: with B = 0 the gradient of A vanishes. Several first
    factors, as in LoHa, alternate in the odd rounds.
    """

    def trains(self, name: str, round_index: int) -> bool:
        found = kind_of_tensor(name)
        if found is None or found[0].factors[found[1]].role == "alone":
            return True
        kind, ending = found
        if round_index % 2 == 0:
            return ending not in kind.first
        return ending == kind.first[round_index // 2 % len(kind.first)]


def weighted_mean(updates: Sequence[Adapter]) -> dict[str, Tensor]:
    """The mean of each tensor over the updates that contain it, weighted by their samples.

    Summed in float64 in the order of `updates` and rounded once, to the tensor's dtype.
    """
    sums: dict[str, Tensor] = {}
    weights: dict[str, float] = {}
    for update in updates:
        for name, tensor in update.tensors.items():
            term = tensor.to(torch.float64) * update.samples
            sums[name] = sums[name] + term if name in sums else term
            weights[name] = weights.get(name, 0.0) + update.samples
    kinds = {name: tensor.dtype for update in updates for name, tensor in update.tensors.items()}
    return {name: (total / weights[name]).to(kinds[name]) for name, total in sums.items()}


Merge = Callable[[Sequence[Adapter]], dict[str, Tensor]]
"""Merges the updates of a round into new values, and residuals to be added to the current ones."""


@dataclass(frozen=True, kw_only=True)
class AggregatorSpec:
    """An aggregator, with a one-line description `about` and its citation.

    `is_exact`: the product of the merged factors is the mean of the clients' products.
    `needs_individual_updates`: a sum of the updates, as from over-the-air computation, is not enough.
    `pads`: updates of clients of lower rank are padded with zeros.
    """

    about: str
    bibtex: str = ""
    rule: Callable[[], Aggregator]
    merge: Merge = weighted_mean
    is_exact: bool = True
    needs_individual_updates: bool = False
    pads: bool = True


AGGREGATORS: Final[Mapping[str, AggregatorSpec]] = {
    "rolora": AggregatorSpec(
        about="clients train B and A in turn, so that their mean is exact", bibtex=ROLORA, rule=Rolora
    ),
    "ffa": AggregatorSpec(
        about="clients train B alone, so that its mean is exact", bibtex=FFA_LORA, rule=Ffa
    ),
    "mean": AggregatorSpec(
        about="the mean of each tensor, which for A and B apart is not that of their products",
        rule=Mean,
        is_exact=False,  # the baseline (FedIT, ICASSP'24)
    ),
    "stack": AggregatorSpec(
        about="the clients' A and B stacked: the mean of their products, exact, also of unequal ranks",
        bibtex=FLORA,
        rule=Mean,
        merge=stacked,
        needs_individual_updates=True,
        pads=False,
    ),
    "fedex": AggregatorSpec(
        about="the mean of A and B, and what it misses of the mean product as a residual: exact",
        bibtex=FEDEX_LORA,
        rule=Mean,
        merge=fedex,
        needs_individual_updates=True,
    ),
    "svd": AggregatorSpec(
        about="the mean product, truncated to the adapter's rank",
        bibtex=FLEX_LORA,
        rule=Mean,
        merge=truncated,
        is_exact=False,
        needs_individual_updates=True,
    ),
    "seed-scalar": AggregatorSpec(
        about="no tensor is averaged: every client takes all clients' steps",
        rule=Mean,
        is_exact=False,
    ),
}

EXACT_MEANS: Final = tuple(
    name for name, one in AGGREGATORS.items() if one.is_exact and one.merge is weighted_mean
)
"""Those that are exact because clients train one of two factors, for kinds that are linear in each."""


def row(name: str) -> AggregatorSpec:
    """The aggregator of this name. Raises ConfigError for an unknown name."""
    one_of("federation.aggregator", name, AGGREGATORS)
    return AGGREGATORS[name]


def aggregator(name: str) -> Aggregator:
    """The training rule of the aggregator of this name. Raises ConfigError for an unknown name."""
    return row(name).rule()


def describe(name: str) -> str:
    """A sentence for the report on how the clients' adapters were aggregated."""
    return f"The clients' adapters were aggregated by {name!r}: {row(name).about}."
