"""Aggregates the updates of a round into the next version, and computes each client's difference to it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor
from torch.nn.functional import pad

from splitfl.adapters.residuals import RESIDUALS, extended, rank_axis
from splitfl.config import FederationConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import Adapter
from splitfl.core.state import State, copied, number_in, numbered, part, under, whole
from splitfl.federation.aggregators import Merge, row
from splitfl.federation.robust import clipped, median, trimmed_mean
from splitfl.federation.server_optimiser import ServerOptimiser, server_optimiser
from splitfl.federation.staleness import Staleness, at_own_pace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, eq=False)
class Start:
    """The initial tensors of all clients, as far as the settings need them.

    Clients hold only the first `ranks[client]` rows (A) or columns (B) of tensors in `ranked`.
    """

    tensors: Mapping[str, Tensor] = field(default_factory=dict)
    ranked: frozenset[str] = frozenset()
    ranks: tuple[int, ...] = ()


def needs_start(federation: FederationConfig) -> bool:
    """Whether these settings need the clients' initial tensors."""
    is_moving = federation.server_optimiser != "none" or federation.robust == "clip"
    return is_moving or bool(federation.client_ranks) or at_own_pace(federation)


def needs_individual_updates(federation: FederationConfig) -> bool:
    """Whether these settings need individual updates, not only their sum."""
    is_sum = federation.robust == "none" and not federation.client_ranks
    return row(federation.aggregator).needs_individual_updates or not is_sum


class Averager:
    """Collects the updates of a round and holds the aggregated tensors.

    The update of a client of lower rank is padded with zeros, which is exact, and the client
    receives the first rows or columns up to its rank.
    """

    def __init__(
        self,
        settings: FederationConfig,
        start: Start | None = None,
        merge: Merge | None = None,
        optimiser: ServerOptimiser | None = None,
    ) -> None:
        """`merge` and `optimiser` replace those of the settings; an optimiser needs a `start`."""
        self.tensors: dict[str, Tensor] = {}
        self._settings = settings
        self._start = start or Start()
        self._row = row(settings.aggregator)
        self._merge = merge or _merge(settings)
        self._optimiser = optimiser or server_optimiser(settings.server_optimiser, settings.server_lr)
        self._version = 0
        self._changed_in: dict[str, int] = {}
        self._residuals: dict[int, dict[str, Tensor]] = {}
        self._updates: list[Adapter] = []
        self._staleness = Staleness(settings, self._start.tensors) if at_own_pace(settings) else None

    def staleness(self, update: Adapter) -> int:
        """The number of versions since the one that an update started from. Raises WireError if unknown."""
        if not 0 <= update.version <= self._version:
            raise WireError(f"version of an update must lie in [0, {self._version}], got {update.version}")
        return self._version - update.version

    def check(self, update: Adapter) -> None:
        """Raises WireError for a tensor that no client trains, or of another shape, where they are known."""
        start = self._start.tensors
        for name, value in update.tensors.items():
            if start and not self._start.ranks and (name not in start or start[name].shape != value.shape):
                held = f"which has {list(start[name].shape)}" if name in start else "which is not trained"
                raise WireError(f"an update has {name!r} of shape {list(value.shape)}, {held}")

    def receive(self, update: Adapter) -> None:
        """Adds a client's update; ignores one without samples, and, with a warning, one that is too old."""
        most = self._settings.max_staleness
        if most and self.staleness(update) > most:
            message = "ignored an update that is %d versions old: federation.max_staleness is %d"
            log.warning(message, self.staleness(update), most)
        elif update.samples:
            self._updates.append(update)

    def end_round(self) -> None:
        """Aggregates the updates into the next version; without updates the version does not change."""
        if not self._updates:
            return
        self._version += 1
        merged = self._merged([self._whole(update) for update in self._updates])
        residual = {name: value for name, value in merged.items() if name.endswith(RESIDUALS)}
        merged = {name: value for name, value in merged.items() if name not in residual}
        self.tensors |= merged
        self._changed_in |= dict.fromkeys(merged, self._version)
        if self._staleness:
            self._staleness.moved(self._version, merged)
        if residual:
            self._residuals[self._version] = residual
            self.tensors |= extended(self.tensors, residual)
        self._updates = []

    def since(self, version: int, client: int = 0) -> Adapter | None:
        """The changes since a client's version, with residuals to be added; None without changes."""
        if self._staleness:  # drops unreferenced versions only, so that calls may be repeated
            self._staleness.held(client, version)
        changed = {
            name: self._held_by(client, name, self.tensors[name])
            for name, at in self._changed_in.items()
            if at > version
        }
        missed: dict[str, Tensor] = {}
        for at, residual in self._residuals.items():
            missed = extended(missed, residual) if at > version else missed
        changed |= missed
        return Adapter(version=self._version, tensors=changed) if changed else None

    def state(self) -> State:
        """The tensors, their version, and the version of each tensor's last change."""
        changed = {name: whole(at) for name, at in self._changed_in.items()}
        residuals = {
            name: value
            for at, residual in self._residuals.items()
            for name, value in under(str(at), copied(residual)).items()
        }
        return {
            **under("value", copied(self.tensors)),
            **under("changed", changed),
            **under("residual", residuals),
            **under("optimiser", self._optimiser.state() if self._optimiser else {}),
            "version": whole(self._version),
        }

    def restore(self, state: State) -> None:
        """Restores the tensors and discards collected updates."""
        self._version = number_in(state, "version")
        self.tensors = part(state, "value")
        self._changed_in = {name: int(at) for name, at in part(state, "changed").items()}
        self._residuals = numbered(part(state, "residual"))
        if self._optimiser:
            self._optimiser.restore(part(state, "optimiser"))
        self._updates = []

    def _merged(self, updates: Sequence[Adapter]) -> dict[str, Tensor]:
        held = {**self._start.tensors, **self.tensors}
        if self._staleness:
            updates = [self._staleness.fresh(update) for update in updates]
        if self._settings.robust == "clip":
            updates = clipped(updates, held, self._settings.clip_norm)
        merged = self._merge(updates)
        return self._optimiser.step(held, merged) if self._optimiser else merged

    def _whole(self, update: Adapter) -> Adapter:
        """The update padded with zeros to full rank."""
        if not (self._start.ranked and self._row.pads):
            return update
        tensors = {name: self._padded(name, value) for name, value in update.tensors.items()}
        return Adapter(version=update.version, samples=update.samples, losses=update.losses, tensors=tensors)

    def _padded(self, name: str, value: Tensor) -> Tensor:
        if name not in self._start.ranked:
            return value
        axis = rank_axis(name)
        missing = self._start.tensors[name].shape[axis] - value.shape[axis]
        return pad(value, (0, 0, 0, missing) if axis == 0 else (0, missing))

    def _held_by(self, client: int, name: str, value: Tensor) -> Tensor:
        if name not in self._start.ranked:
            return value
        return value.narrow(rank_axis(name), 0, min(self._start.ranks[client], value.shape[rank_axis(name)]))


def _merge(settings: FederationConfig) -> Merge:
    if settings.robust == "median":
        return median
    if settings.robust == "trimmed-mean":
        return partial(trimmed_mean, trim=settings.trim)
    return row(settings.aggregator).merge
