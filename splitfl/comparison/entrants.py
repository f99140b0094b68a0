"""The entrants of a comparison: one method each, with its required settings."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from splitfl.comparison.budget import Budget, BudgetedRounds, plan_within
from splitfl.config import RunConfig
from splitfl.controller.budget import resolved
from splitfl.core.errors import ConfigError, CutError
from splitfl.methods.registry import method
from splitfl.methods.settings import without_unread
from splitfl.setup.experiment_file import as_dict, from_dict
from splitfl.setup.overriding import resolved_settings

VARIANTS: Mapping[str, tuple[str, ...]] = {"checkpointed": ("method.checkpoint_head=true",)}
"""Settings implied by METHOD@NAME; any other NAME only distinguishes entrants of one method."""

ALWAYS = ("frozen", "sfl-v2@checkpointed")
"""Simple, strong baselines that every comparison includes."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A label, its settings and planned costs; `adjusted` are settings that its method requires."""

    label: str
    config: RunConfig
    plan: BudgetedRounds
    adjusted: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """A method that cannot take part, and the reason."""

    label: str
    reason: str


def labels_of(methods: Iterable[str]) -> list[str]:
    """The given labels without duplicates, and the baselines `ALWAYS`.

    A label is a method, or `METHOD@NAME` for a variant of it; see `VARIANTS`.
    """
    named = [label.strip() for label in methods if label.strip()]
    if not named:
        raise ConfigError("methods must name at least one method, got none")
    return list(dict.fromkeys([*named, *ALWAYS]))


def settings_by_label(given: Iterable[str], labels: Sequence[str]) -> dict[str, list[str]]:
    """`LABEL:table.key=value` by label; raises ConfigError for an unknown label."""
    settings: dict[str, list[str]] = {label: [] for label in labels}
    for text in given:
        label, colon, override = text.partition(":")
        if not colon or label not in settings:
            raise ConfigError(
                f"--with takes LABEL:table.key=value, LABEL one of {', '.join(labels)}; got {text!r}"
            )
        settings[label].append(override)
    return settings


def enter(
    tables: Mapping[str, Any],
    overrides: Sequence[str],
    label: str,
    own: Sequence[str],
    budgets: Sequence[Budget],
    max_rounds: int | None,
    *,
    every_round: bool = False,
) -> Entrant | Excluded:
    """The entrant of this label: shared tables and overrides, its own settings, and the rounds within budget.

    It is evaluated ten times, or in `every_round`. Shared settings that the method does not have are
    dropped; such settings of its own are refused. Returns Excluded if it cannot run.
    """
    name, _, variant = label.partition("@")
    own = [*VARIANTS.get(variant, ()), *own]
    needs = [need for need in method(name).needs if not _is_set(need, (*overrides, *own))]
    try:
        shared = resolved_settings(tables, [*overrides, f"method.name={name}", *needs], for_several=True)
        config = resolved(from_dict(as_dict(without_unread(shared)), own))
        plan = plan_within(config, budgets, max_rounds or _max_rounds(config, budgets))
    except (ConfigError, CutError) as error:
        return Excluded(label=label, reason=str(error))
    schedule = [
        f"federation.rounds={plan.rounds}",
        f"eval.every={1 if every_round else max(1, plan.rounds // 10)}",
    ]
    config = from_dict(as_dict(config), schedule)
    return Entrant(label=label, config=config, plan=plan, adjusted=tuple(needs))


def enter_all(
    tables: Mapping[str, Any],
    overrides: Sequence[str],
    settings: Mapping[str, Sequence[str]],
    budgets: Sequence[Budget],
    max_rounds: int | None,
    *,
    every_round: bool = False,
    on_label: Callable[[str], None] = lambda label: None,
) -> tuple[list[Entrant], list[Excluded]]:
    """Applies `enter` to every label of `settings`; calls `on_label` before each dry run."""
    entrants: list[Entrant] = []
    excluded: list[Excluded] = []
    for label, own in settings.items():
        on_label(label)
        one = enter(tables, overrides, label, own, budgets, max_rounds, every_round=every_round)
        if isinstance(one, Entrant):
            entrants.append(one)
        else:
            excluded.append(one)
    return entrants, excluded


def check_any(entrants: Sequence[Entrant], excluded: Sequence[Excluded], action: str) -> None:
    """Raises ConfigError with all reasons if there is no entrant."""
    if not entrants:
        reasons = "; ".join(f"{one.label}: {one.reason}" for one in excluded)
        raise ConfigError(f"no method can {action}: {reasons}")


def _max_rounds(config: RunConfig, budgets: Sequence[Budget]) -> int:
    """Ten times the experiment's rounds with a budget, else the experiment's."""
    return config.federation.rounds * (10 if budgets else 1)


def _is_set(need: str, overrides: Iterable[str]) -> bool:
    return any(override.partition("=")[0].strip() == need.partition("=")[0] for override in overrides)


def as_rows(excluded: Iterable[Excluded]) -> Mapping[str, str]:
    """The reason by label."""
    return {one.label: one.reason for one in excluded}
