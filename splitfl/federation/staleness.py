"""Staleness compensation of asynchronous updates.

An update y of a client that started from version v of the tensors, x_v, is rebased to

    x + m (1 + s)^-a (y - x_v)

where x is the newest version, s the staleness (the number of versions since v), a the staleness exponent,
and m the mixing weight: 1, except in the anarchic schedule, where every update is applied by itself and
large steps of the server would diverge. An update from the newest version with m = 1 is y itself, bit for
bit. The buffered schedule is FedBuff (Nguyen et al., AISTATS'22) with models in place of its model
differences, so that any aggregator applies unchanged; in the anarchic schedule clients choose when they
participate and how many steps they take (Yang et al., ICML'22). a = 1/2 is FedBuff's 1 / sqrt(1 + s)
(quoted from memory).
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from splitfl.config import FederationConfig
from splitfl.core.messages import Adapter

OWN_PACE = ("buffered", "anarchic")
"""The asynchronous schedules."""


def at_own_pace(federation: FederationConfig) -> bool:
    """Whether the schedule is asynchronous: clients do not wait for each other."""
    return federation.schedule in OWN_PACE


def uploads_a_version(federation: FederationConfig) -> int:
    """The number of client updates per version in an asynchronous schedule."""
    return (federation.buffer or federation.clients) if federation.schedule == "buffered" else 1


def most_rounds(federation: FederationConfig) -> int:
    """The maximum number of rounds of one client; in an asynchronous schedule those of all clients."""
    return federation.rounds * (federation.clients if at_own_pace(federation) else 1)


class Staleness:
    """The past versions from which updates may still arrive."""

    def __init__(self, federation: FederationConfig, start: Mapping[str, Tensor]) -> None:
        """`start` holds the tensors of version 0."""
        self._power = federation.staleness_power
        self._share = federation.mixing if federation.schedule == "anarchic" else 1.0
        self._versions: dict[int, Mapping[str, Tensor]] = {0: dict(start)}
        self._held = dict.fromkeys(range(federation.clients), 0)

    def held(self, client: int, version: int) -> None:
        """Records the version that a client holds, and drops versions older than those of all clients."""
        self._held[client] = version
        oldest = min(self._held.values())
        self._versions = {at: tensors for at, tensors in self._versions.items() if at >= oldest}

    def moved(self, version: int, tensors: Mapping[str, Tensor]) -> None:
        """Adds a new version."""
        self._versions[version] = {**self._versions[max(self._versions)], **tensors}

    def fresh(self, update: Adapter) -> Adapter:
        """The update rebased to the newest version."""
        now, began = max(self._versions), update.version
        weight = self._share * (1.0 + now - began) ** -self._power
        if now == began and weight == 1.0:
            return update
        newest, base = self._versions[now], self._versions[began]
        tensors = {
            name: (
                newest[name].to(torch.float64)
                + weight * (value.to(torch.float64) - base[name].to(torch.float64))
            ).to(value.dtype)
            for name, value in update.tensors.items()
        }
        return replace(update, tensors=tensors)
