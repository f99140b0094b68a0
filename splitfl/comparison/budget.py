"""What every method may spend, and how many rounds that is."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from splitfl.config import RunConfig, one_of
from splitfl.controller.dry_run import DryRun, rehearse
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
    """An upper bound: bytes and airtime of all clients both ways, their radiated energy, the memory of the
    client that needs most, or the training steps of each client."""

    kind: str
    most: float

    def __str__(self) -> str:
        return f"{self.kind.replace('_', ' ')} of {self.shown(self.most)}"

    def shown(self, amount: float) -> str:
        """So much of its kind, for a person."""
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
class Plan:
    """The rounds that a budget allows, what they will cost, and whether only `most_rounds` ended them."""

    rounds: int
    dry_run: DryRun
    is_capped: bool


def parse_budget(text: str) -> Budget:
    """`bytes=50MB`, `airtime=60s`, `energy=5J`, `client_memory=200MB` or `steps=300`; else ConfigError."""
    kind, equals, amount = text.partition("=")
    one_of("budget", kind, _FACTORS)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", amount.strip())
    units = _FACTORS[kind]
    if not equals or found is None or found[2] not in units or not float(found[1]):
        known = ", ".join(unit or "a number alone" for unit in units)
        raise ConfigError(f"the budget {kind} takes a number above 0 and a unit ({known}), got {text!r}")
    return Budget(kind=kind, most=float(found[1]) * units[found[2]])


def plan_within(config: RunConfig, budgets: Sequence[Budget], most_rounds: int) -> Plan:
    """As many rounds as all budgets allow, at most `most_rounds`, found by dry runs.

    Raises ConfigError where not one round fits, and for energy or airtime on a link that has none.
    """
    rounds = most_rounds
    for budget in budgets:
        if budget.kind == "steps":
            rounds = min(rounds, int(budget.most) // max(1, config.federation.local_steps))
    if rounds < 1:
        raise ConfigError(
            f"one round has {config.federation.local_steps} steps, which is over {_named(budgets)}"
        )
    tried = min(rounds, config.federation.rounds)
    while True:
        dry_run = rehearse(Experiment.of(_of_rounds(config, tried)))
        allowed = min(_allowed(budget, dry_run, tried) for budget in budgets) if budgets else tried
        if allowed < 1:
            raise ConfigError(f"one round alone is over {_named(budgets)}")
        if allowed < tried:  # the dry run of a plan has its own number of rounds
            tried, rounds = allowed, allowed
            continue
        if tried == rounds:
            return Plan(rounds=tried, dry_run=dry_run, is_capped=bool(budgets) and tried == most_rounds)
        tried = min(rounds, 2 * tried)


def _of_rounds(config: RunConfig, rounds: int) -> RunConfig:
    return replace(config, federation=replace(config.federation, rounds=rounds))


def _allowed(budget: Budget, dry_run: DryRun, rounds: int) -> int:
    """How many whole rounds stay within the budget."""
    if budget.kind == "steps":
        return rounds
    if budget.kind == "client_memory":
        needed = dry_run.client.total_bytes
        if needed > budget.most:
            raise ConfigError(f"a client needs {bytes_text(needed)}, which is over the {budget}")
        return rounds
    name = {"bytes": "payload_bytes", "airtime": "airtime_s", "energy": "energy_j"}[budget.kind]
    spent = [0.0] * (rounds + 1)
    for (round_index, _, _), traffic in dry_run.ledger.traffic.items():
        spent[min(round_index, rounds)] += getattr(traffic, name)
    if not sum(spent):
        raise ConfigError(f"nothing on this link takes any {budget.kind}: give [link] a rate, or a scenario")
    total, allowed = 0.0, 0
    for cost in spent[:rounds]:
        total += cost
        allowed += total <= budget.most
    return allowed


def _named(budgets: Sequence[Budget]) -> str:
    return "the budget: " + " and ".join(map(str, budgets))
