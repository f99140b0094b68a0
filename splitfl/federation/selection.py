"""Random selection of the clients that participate in a round, and their simulated churn."""

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import numpy as np

from channel.core.rng import stream
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Selection:
    """In every round `select` of the present clients participate, drawn from the seed; 0 is all of them.

    In round 0 all clients are present. Before each later round a present client leaves with probability
    `leave_rate`, and one that is away returns with probability `return_rate`.
    """

    seed: int
    clients: int
    select: int
    leave_rate: float = 0.0
    return_rate: float = 1.0

    @classmethod
    def of(cls, config: RunConfig) -> Self:
        """From the settings. Raises ConfigError for more clients than there are."""
        settings, clients = config.fault_tolerance, config.federation.clients
        if settings.clients_per_round > clients:
            raise ConfigError(
                f"fault_tolerance.clients_per_round must be at most federation.clients, {clients}, "
                f"got {settings.clients_per_round}"
            )
        return cls(
            seed=config.train.seed,
            clients=clients,
            select=settings.clients_per_round,
            leave_rate=settings.leave_rate,
            return_rate=settings.return_rate,
        )

    @property
    def is_of_all(self) -> bool:
        """Whether every client participates in every round."""
        return not self.select and not self.leave_rate

    def takes_part(self, client: int, round_index: int) -> bool:
        """Whether this client participates in this round."""
        return self.is_of_all or client in _selected(self, round_index)


@lru_cache(maxsize=8)
def _selected(selection: Selection, round_index: int) -> frozenset[int]:
    candidates = np.arange(selection.clients)
    if selection.leave_rate:
        candidates = np.flatnonzero(_presence(selection).at(round_index))
    if 0 < selection.select < len(candidates):
        rng = stream(selection.seed, "select", round_index)
        candidates = rng.choice(candidates, selection.select, replace=False)
    return frozenset(candidates.tolist())


class _Presence:
    """Which clients are present, a Markov chain of two states for each."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._lock = threading.Lock()
        self._round = 0
        self._is_present = self._everyone()

    def at(self, round_index: int) -> np.ndarray:
        """(clients,) bool in this round; cheap for one round after another."""
        with self._lock:
            if round_index < self._round:
                self._round, self._is_present = 0, self._everyone()
            while self._round < round_index:
                self._round += 1
                draws = stream(self._selection.seed, "churn", self._round).random(self._selection.clients)
                stays, returns = draws >= self._selection.leave_rate, draws < self._selection.return_rate
                self._is_present = np.where(self._is_present, stays, returns)
            return self._is_present

    def _everyone(self) -> np.ndarray:
        return np.ones(self._selection.clients, dtype=bool)


@lru_cache(maxsize=8)
def _presence(selection: Selection) -> _Presence:
    return _Presence(selection)
