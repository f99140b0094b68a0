"""Who takes part in a comparison: one method each, with the settings that it cannot do without."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from splitfl.comparison.budget import Budget, Plan, plan_within
from splitfl.config import RunConfig
from splitfl.controller.budget import decided
from splitfl.core.errors import ConfigError, CutError
from splitfl.methods.registry import method
from splitfl.methods.settings import without_unread
from splitfl.setup.experiment_file import as_dict, from_dict
from splitfl.setup.overriding import settled

VARIANTS: Mapping[str, tuple[str, ...]] = {"checkpointed": ("method.checkpoint_head=true",)}
"""What METHOD@NAME sets by itself; any other NAME tells two entrants of one method apart."""

ALWAYS = ("frozen", "sfl-v2@checkpointed")
"""Simple and strong, and usually left out: laid beside whatever is compared."""


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """A label, its settings and what they will cost; `adjusted` are those it could not be without."""

    label: str
    config: RunConfig
    plan: Plan
    adjusted: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """A method that cannot take part, and why."""

    label: str
    reason: str


def labels_of(methods: Iterable[str]) -> list[str]:
    """The labels that are given, each once, with those that are always there.

    A label is a method, or `METHOD@NAME` for a variant of it; see `VARIANTS`.
    """
    named = [label.strip() for label in methods if label.strip()]
    if not named:
        raise ConfigError("methods must name at least one method, got none")
    return list(dict.fromkeys([*named, *ALWAYS]))


def settings_by_label(given: Iterable[str], labels: Sequence[str]) -> dict[str, list[str]]:
    """`LABEL:table.key=value` by label; ConfigError for a label that does not take part."""
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
    most_rounds: int | None,
    *,
    every_round: bool = False,
) -> Entrant | Excluded:
    """The method of this label with an experiment's tables, its own settings, and the rounds that fit.

    It is measured ten times, or in `every_round`.
    What the method does not read of the settings that all share is left out, of its own refused.
    """
    name, _, variant = label.partition("@")
    own = [*VARIANTS.get(variant, ()), *own]
    needs = [need for need in method(name).needs if not _is_set(need, (*overrides, *own))]
    try:
        shared = settled(tables, [*overrides, f"method.name={name}", *needs], for_several=True)
        config = decided(from_dict(as_dict(without_unread(shared)), own))
        plan = plan_within(config, budgets, most_rounds or _most_rounds(config, budgets))
    except (ConfigError, CutError) as error:
        return Excluded(label=label, reason=str(error))
    played = [
        f"federation.rounds={plan.rounds}",
        f"eval.every={1 if every_round else max(1, plan.rounds // 10)}",
    ]
    config = from_dict(as_dict(config), played)
    return Entrant(label=label, config=config, plan=plan, adjusted=tuple(needs))


def enter_all(
    tables: Mapping[str, Any],
    overrides: Sequence[str],
    settings: Mapping[str, Sequence[str]],
    budgets: Sequence[Budget],
    most_rounds: int | None,
    *,
    every_round: bool = False,
    on_label: Callable[[str], None] = lambda label: None,
) -> tuple[list[Entrant], list[Excluded]]:
    """See `enter`, for every label of `settings`; `on_label` is told of each before its dry run."""
    entrants: list[Entrant] = []
    excluded: list[Excluded] = []
    for label, own in settings.items():
        on_label(label)
        one = enter(tables, overrides, label, own, budgets, most_rounds, every_round=every_round)
        if isinstance(one, Entrant):
            entrants.append(one)
        else:
            excluded.append(one)
    return entrants, excluded


def demand_some(entrants: Sequence[Entrant], excluded: Sequence[Excluded], do: str) -> None:
    """Raises ConfigError with the reason of each where no method is left."""
    if not entrants:
        reasons = "; ".join(f"{one.label}: {one.reason}" for one in excluded)
        raise ConfigError(f"no method can {do}: {reasons}")


def _most_rounds(config: RunConfig, budgets: Sequence[Budget]) -> int:
    """Ten times the experiment's rounds where a budget is to end them, else the experiment's."""
    return config.federation.rounds * (10 if budgets else 1)


def _is_set(need: str, overrides: Iterable[str]) -> bool:
    return any(override.partition("=")[0].strip() == need.partition("=")[0] for override in overrides)


def as_rows(excluded: Iterable[Excluded]) -> Mapping[str, str]:
    """Why each of them is left out."""
    return {one.label: one.reason for one in excluded}
