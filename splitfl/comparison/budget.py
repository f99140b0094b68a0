"""Budgets of a comparison, and the number of rounds within them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from splitfl.config import RunConfig, one_of
from splitfl.controller.dry_run import DryRun, run_dry
from splitfl.core.errors import ConfigError
from splitfl.core.quantities import bytes_text, scaled, seconds_text
from splitfl.setup.experiment import Experiment

_BYTES: Final = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "KiB": 2.0**10, "MiB": 2.0**20, "GiB": 2.0**30}
_FACTORS: Final[Mapping[str, Mapping[str, float]]] = {
    "bytes": _BYTES,
    "airtime": {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0},
    "energy": {"mJ": 1e-3, "J": 1.0, "kJ": 1e3},
    "client_memory": _BYTES,
    "steps": {"": 1.0},
}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """An upper bound: bytes and airtime of all clients in both directions, their radiated energy, the
    memory of the client that needs most, or the training steps of each client."""

    kind: str
    limit: float

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} of {self.shown(self.limit)}"

    def shown(self, amount: float) -> str:
        """An amount of this kind as text, with its unit."""
        match self.kind:
            case "bytes" | "client_memory":
                return bytes_text(amount)
            case "airtime":
                return seconds_text(amount)
            case "energy":
                return scaled(amount, "J")
            case _:
                return f"{amount:g}"


@dataclass(frozen=True, kw_only=True)
class BudgetedRounds:
    """The rounds within a budget, their costs, and whether only `max_rounds` limited them."""

    rounds: int
    dry_run: DryRun
    is_capped: bool


def parse_budget(text: str) -> Budget:
    """`bytes=50MB`, `airtime=60s`, `energy=5J`, `client_memory=200MB` or `steps=300`; or ConfigError."""
    kind, equals, amount = text.partition("=")
    one_of("budget", kind, _FACTORS)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", amount.strip())
    units = _FACTORS[kind]
    if not equals or found is None or found[2] not in units or not float(found[1]):
        known = ", ".join(unit or "a number alone" for unit in units)
        raise ConfigError(f"budget {kind} must be a number > 0 with a unit ({known}), got {text!r}")
    return Budget(kind=kind, limit=float(found[1]) * units[found[2]])


def plan_within(config: RunConfig, budgets: Sequence[Budget], max_rounds: int) -> BudgetedRounds:
    """The largest number of rounds within all budgets, at most `max_rounds`, found by dry runs.

    Raises ConfigError if no round fits, and for energy or airtime on a link without.
    """
    rounds = max_rounds
    for budget in budgets:
        if budget.kind == "steps":
            rounds = min(rounds, int(budget.limit) // max(1, config.federation.local_steps))
    if rounds < 1:
        raise ConfigError(
            f"one round has {config.federation.local_steps} steps, which exceeds {_named(budgets)}"
        )
    candidate = min(rounds, config.federation.rounds)
    while True:
        dry_run = run_dry(Experiment.of(_of_rounds(config, candidate)))
        allowed = min(_allowed(budget, dry_run, candidate) for budget in budgets) if budgets else candidate
        if allowed < 1:
            raise ConfigError(f"one round exceeds {_named(budgets)}")
        if allowed < candidate:  # the dry run of a plan has its own number of rounds
            candidate, rounds = allowed, allowed
            continue
        if candidate == rounds:
            return BudgetedRounds(
                rounds=candidate, dry_run=dry_run, is_capped=bool(budgets) and candidate == max_rounds
            )
        candidate = min(rounds, 2 * candidate)


def _of_rounds(config: RunConfig, rounds: int) -> RunConfig:
    return replace(config, federation=replace(config.federation, rounds=rounds))


def _allowed(budget: Budget, dry_run: DryRun, rounds: int) -> int:
    """The number of whole rounds within the budget."""
    if budget.kind == "steps":
        return rounds
    if budget.kind == "client_memory":
        needed = dry_run.client.total_bytes
        if needed > budget.limit:
            raise ConfigError(f"a client needs {bytes_text(needed)}, which exceeds the {budget}")
        return rounds
    name = {"bytes": "payload_bytes", "airtime": "airtime_s", "energy": "energy_j"}[budget.kind]
    spent = [0.0] * (rounds + 1)
    for (round_index, _, _), traffic in dry_run.ledger.traffic.items():
        spent[min(round_index, rounds)] += getattr(traffic, name)
    if not sum(spent):
        raise ConfigError(f"no message on this link costs {budget.kind}: give [link] a rate or a scenario")
    total, allowed = 0.0, 0
    for cost in spent[:rounds]:
        total += cost
        allowed += total <= budget.limit
    return allowed


def _named(budgets: Sequence[Budget]) -> str:
    return "the budget: " + " and ".join(map(str, budgets))
