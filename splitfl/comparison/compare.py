"""Python API of method comparisons and plans, as `splitfl compare` and `splitfl plan` use it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from splitfl.comparison.budget import parse_budget
from splitfl.comparison.entrants import as_rows, check_any, enter_all, labels_of
from splitfl.comparison.planned_costs import planned_costs
from splitfl.comparison.ranking import Standing, standings
from splitfl.comparison.runs import Backend, SeedRun, run_all, seed_runs
from splitfl.core.errors import PeerLost
from splitfl.setup.experiment_file import from_dict


@dataclass(frozen=True, kw_only=True)
class PlannedCosts:
    """The costs of a whole run, by method and name; `excluded` has the reason for each other method."""

    costs: Mapping[str, Mapping[str, float]]
    excluded: Mapping[str, str]

    def _repr_html_(self) -> str:
        """An HTML table for notebooks: a row for each cost and a column for each method."""
        names = dict.fromkeys(name for costs in self.costs.values() for name in costs)
        rows = [["", *self.costs], *([name, *_column(self.costs, name)] for name in names)]
        return _table(rows) + _excluded(self.excluded)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The `standings`, best first, with means over seeds; the folders of all finished runs, by method.

    `excluded` and `failed` have the reason for each method that cannot run, and for each failed run.
    """

    standings: tuple[Standing, ...]
    runs: Mapping[str, tuple[Path, ...]]
    excluded: Mapping[str, str]
    failed: Mapping[str, str]

    @property
    def columns(self) -> dict[str, list[Any]]:
        """The standings as columns: `label`, `mean` and `margin` of the metric, bytes_up, airtime_s ..."""
        rows = [{**asdict(one), "mean": one.mean, "margin": one.margin} for one in self.standings]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def _repr_html_(self) -> str:
        """An HTML table for notebooks: a row for each method, best first."""
        names = ("label", "mean", "margin", "rounds", "bytes_up", "bytes_down", "airtime_s", "energy_j")
        lines = zip(*(map(_shown, self.columns[name]) for name in names), strict=True)
        metric = self.standings[0].metric
        head = [metric if name == "mean" else name for name in names]
        return _table([head, *map(list, lines)]) + _excluded({**self.excluded, **self.failed})


def plan_methods(
    tables: Mapping[str, Any],
    overrides: Sequence[str],
    labels: Iterable[str],
    label_settings: Mapping[str, Sequence[str]],
) -> PlannedCosts:
    """The costs of each method on this experiment, by dry runs; raises ConfigError if no method can run."""
    settings = {label: label_settings.get(label, ()) for label in labels}
    entrants, excluded = enter_all(tables, overrides, settings, [], None)
    check_any(entrants, excluded, "run")
    return PlannedCosts(costs={one.label: planned_costs(one) for one in entrants}, excluded=as_rows(excluded))


def compare_methods(
    tables: Mapping[str, Any],
    overrides: Sequence[str],
    methods: Iterable[str],
    label_settings: Mapping[str, Sequence[str]],
    *,
    budgets: Sequence[str],
    seeds: int,
    backend: Backend,
    max_rounds: int | None,
    out: Path,
    on_done: Callable[[SeedRun, str | None, int], None],
) -> Comparison:
    """Runs all methods with all seeds; calls `on_done(run, error, total)` after each run.

    Raises ConfigError if no method can take part, PeerLost if every run failed.
    """
    settings = {label: label_settings.get(label, ()) for label in labels_of(methods)}
    bounds = [parse_budget(text) for text in budgets]
    entrants, excluded = enter_all(tables, overrides, settings, bounds, max_rounds)
    check_any(entrants, excluded, "take part")
    first = from_dict(tables, overrides).train.seed
    todo = seed_runs(entrants, range(first, first + seeds), out)
    failed: dict[str, str] = {}

    def done(run: SeedRun, reason: str | None) -> None:
        if reason is not None:
            failed[f"{run.label}, seed {run.seed}"] = reason
        on_done(run, reason, len(todo))

    run_all(todo, backend, done)
    found = standings(entrants, todo)
    if not found:
        raise PeerLost(f"every run failed; the first error is: {next(iter(failed.values()))}")
    ended = [run for run in todo if run.summary() is not None]
    runs = {one.label: tuple(run.folder for run in ended if run.label == one.label) for one in found}
    return Comparison(standings=tuple(found), runs=runs, excluded=as_rows(excluded), failed=failed)


def _column(costs: Mapping[str, Mapping[str, float]], name: str) -> list[str]:
    return [_shown(one[name]) for one in costs.values()]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def _table(rows: Iterable[Sequence[str]]) -> str:
    lines = (f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f"<table>{''.join(lines)}</table>"


def _excluded(reasons: Mapping[str, str]) -> str:
    return "".join(f"<div>{escape(label)}: {escape(reason)}</div>" for label, reason in reasons.items())
