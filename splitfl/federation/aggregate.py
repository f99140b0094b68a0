"""From many clients' adapters, one.

The mean of products is not the product of means: averaging LoRA's A and B apart gives
mean(B) mean(A), not mean(B A) (relative error 0.06 to 0.74, see FedEx-LoRA, Singhal et
al., ACL'25). It is exact where all clients hold one of the two factors in common.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol

import torch
from torch import Tensor

from splitfl.config import nearest
from splitfl.errors import ConfigError
from splitfl.messages import Adapter
from splitfl.state import State, copied, number_in, part, under, whole


class Aggregator(Protocol):
    """Which tensors the clients train in a round, so that their mean is what it says."""

    def trains(self, name: str, round_index: int) -> bool:
        """Whether clients train, and send, the tensor of this name in this round."""


class Mean:
    """Everything is trained and averaged apart: the inexact baseline (FedIT, ICASSP'24)."""

    def trains(self, name: str, round_index: int) -> bool:
        return True


class Ffa:
    """A stays as it began, B is trained: exact (FFA-LoRA, Sun et al., ICLR'24)."""

    def trains(self, name: str, round_index: int) -> bool:
        return "lora_A" not in name


class Rolora:
    """B in even rounds, A in odd ones: exact (RoLoRA, Chen et al., NeurIPS'24 workshop).

    B first, because it begins at zero: with B = 0 the gradient of A vanishes.
    """

    def trains(self, name: str, round_index: int) -> bool:
        return ("lora_A" if round_index % 2 == 0 else "lora_B") not in name


AGGREGATORS: Final[Mapping[str, Callable[[], Aggregator]]] = {"rolora": Rolora, "ffa": Ffa, "mean": Mean}


def aggregator(name: str) -> Aggregator:
    """The aggregator of this name; ConfigError where there is none."""
    if name not in AGGREGATORS:
        known = ", ".join(AGGREGATORS)
        raise ConfigError(f"unknown federation.aggregator {name!r};{nearest(name, AGGREGATORS)} have {known}")
    return AGGREGATORS[name]()


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


class Averager:
    """Collects a round's updates and holds what has become of them so far."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._version = 0
        self._changed_in: dict[str, int] = {}
        self._updates: list[Adapter] = []

    def receive(self, update: Adapter) -> None:
        """One client's work; an update without samples says nothing and is left out."""
        if update.samples:
            self._updates.append(update)

    def end_round(self) -> None:
        """The updates become the next version; none came: the version stays."""
        if self._updates:
            self._version += 1
            merged = weighted_mean(self._updates)
            self.tensors |= merged
            self._changed_in |= dict.fromkeys(merged, self._version)
            self._updates = []

    def since(self, version: int) -> Adapter | None:
        """What has changed since a client's version; None where nothing has."""
        changed = {name: self.tensors[name] for name, at in self._changed_in.items() if at > version}
        return Adapter(version=self._version, tensors=changed) if changed else None

    def state(self) -> State:
        """The tensors, their version, and when each last changed; see Stateful."""
        changed = {name: whole(at) for name, at in self._changed_in.items()}
        return {
            **under("value", copied(self.tensors)),
            **under("changed", changed),
            "version": whole(self._version),
        }

    def restore(self, state: State) -> None:
        """See Stateful; updates that have come since are forgotten."""
        self._version = number_in(state, "version")
        self.tensors = part(state, "value")
        self._changed_in = {name: int(at) for name, at in part(state, "changed").items()}
        self._updates = []
