"""What of LoRA the clients train in a round, and how one adapter is made of many.

The mean of products is not the product of means: averaging LoRA's A and B apart gives
mean(B) mean(A), not mean(B A) (relative error 0.06 to 0.74, see FedEx-LoRA, Singhal et
al., ACL'25). It is exact where all clients hold one of the two factors in common, and
where what is averaged are the products themselves (see products.py). Other kinds of adapters
name their factors in the same sense; the mean of a factor that acts alone is exact.
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
    """Which tensors the clients train in a round, so that their mean is what it says."""

    def trains(self, name: str, round_index: int) -> bool:
        """Whether clients train, and send, the tensor of this name in this round."""


class Mean:
    """Everything is trained."""

    def trains(self, name: str, round_index: int) -> bool:
        return True


class Ffa:
    """A stays as it began, B is trained: exact (FFA-LoRA, Sun et al., ICLR'24)."""

    def trains(self, name: str, round_index: int) -> bool:
        return role_of(name) != "first"


class Rolora:
    """B in even rounds, A in odd ones: exact (RoLoRA, Chen et al., NeurIPS'24 workshop).

    B first, because it begins at zero: with B = 0 the gradient of A vanishes. Several first
    factors, as LoHa has, take the odd rounds in turn.
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
    """Each tensor's mean over the updates that hold it, weighed by their samples.

    Summed in float64 in the order given and rounded once, to the tensor's own type.
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
"""What the updates of a round come to: values, and residuals to add to what there was."""


@dataclass(frozen=True, kw_only=True)
class AggregatorSpec:
    """A way of aggregation; `about` it in a line, and whom to cite.

    `is_exact`: the product of what comes out is the mean of the clients' products.
    `needs_individual_updates`: a sum of the updates, as the air can make it, is not enough.
    `pads`: a client of lower rank than others counts with zeros in what it does not have.
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


def row(name: str) -> AggregatorSpec:
    """The way of aggregation of this name; ConfigError where there is none."""
    one_of("federation.aggregator", name, AGGREGATORS)
    return AGGREGATORS[name]


def aggregator(name: str) -> Aggregator:
    """What clients train by the way of aggregation of this name; ConfigError where there is none."""
    return row(name).rule()


def describe(name: str) -> str:
    """How the adapters of the clients became one, for a report."""
    return f"The clients' adapters were aggregated by {name!r}: {row(name).about}."
