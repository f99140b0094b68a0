"""Work that began from an older version, as what it would have been from the newest.

An update y of a client that began from version v of the tensors, x_v, counts as

    x + m (1 + s)^-a (y - x_v)

where x is the newest version, s how many there have been since v, a the power by which old work
counts less, and m the share of it that is taken over: 1, but where each update is taken over by itself,
since large steps of the server break anarchic federation. What began from the newest, with m = 1, is
y itself, to the last bit. Buffered is FedBuff (Nguyen et al., AISTATS'22) with its differences of
models as models, so that the mean, and whatever else there is in its place, stays as it is; anarchic are
clients that say when they come and how much they do (Yang et al., ICML'22). a = 1/2 is FedBuff's 1 /
sqrt(1 + s) (from memory).
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from splitfl.config import FederationConfig
from splitfl.core.messages import Adapter

OWN_PACE = ("buffered", "anarchic")
"""Schedules by which clients do not wait for each other."""


def at_own_pace(federation: FederationConfig) -> bool:
    """Whether clients go on without each other."""
    return federation.schedule in OWN_PACE


def uploads_a_version(federation: FederationConfig) -> int:
    """After how many clients' work there is a new version, where they go on at their own pace."""
    return (federation.buffer or federation.clients) if federation.schedule == "buffered" else 1


def most_rounds(federation: FederationConfig) -> int:
    """How many rounds a client has at most: all of everybody's where they go on at their own pace."""
    return federation.rounds * (federation.clients if at_own_pace(federation) else 1)


class Staleness:
    """The versions that clients may have begun from."""

    def __init__(self, federation: FederationConfig, start: Mapping[str, Tensor]) -> None:
        """`start` are the tensors of version 0."""
        self._power = federation.staleness_power
        self._share = federation.mixing if federation.schedule == "anarchic" else 1.0
        self._versions: dict[int, Mapping[str, Tensor]] = {0: dict(start)}
        self._held = dict.fromkeys(range(federation.clients), 0)

    def held(self, client: int, version: int) -> None:
        """This client begins with no older version than this; versions that nobody has are dropped."""
        self._held[client] = version
        oldest = min(self._held.values())
        self._versions = {at: tensors for at, tensors in self._versions.items() if at >= oldest}

    def moved(self, version: int, tensors: Mapping[str, Tensor]) -> None:
        """There is a new version."""
        self._versions[version] = {**self._versions[max(self._versions)], **tensors}

    def fresh(self, update: Adapter) -> Adapter:
        """The update as it counts now."""
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
