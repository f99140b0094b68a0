"""Methods on the same experiment, planned or run, for Python: the parts that `splitfl compare` uses."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from splitfl.comparison.budget import parse_budget
from splitfl.comparison.entrants import as_rows, demand_some, enter_all, labels_of
from splitfl.comparison.planned import planned
from splitfl.comparison.ranking import Standing, standings
from splitfl.comparison.runs import Race, races, run_all
from splitfl.core.errors import PeerLost
from splitfl.setup.experiment_file import from_dict


@dataclass(frozen=True, kw_only=True)
class PlannedCosts:
    """What a whole run will cost, by method and name; `excluded` says why each other method cannot run."""

    costs: Mapping[str, Mapping[str, float]]
    excluded: Mapping[str, str]

    def _repr_html_(self) -> str:
        """A row for each cost and a column for each method, which notebooks show."""
        names = dict.fromkeys(name for costs in self.costs.values() for name in costs)
        rows = [["", *self.costs], *([name, *_column(self.costs, name)] for name in names)]
        return _table(rows) + _excluded(self.excluded)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The `standings`, best first, with means over the seeds; the folders of all runs that ended, by method.

    `excluded` and `failed` have the reason of each method that could not run, and of each run that failed.
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
        """A row for each method, best first, which notebooks show."""
        names = ("label", "mean", "margin", "rounds", "bytes_up", "bytes_down", "airtime_s", "energy_j")
        lines = zip(*(map(_shown, self.columns[name]) for name in names), strict=True)
        metric = self.standings[0].metric
        head = [metric if name == "mean" else name for name in names]
        return _table([head, *map(list, lines)]) + _excluded({**self.excluded, **self.failed})


def plan_methods(
    tables: Mapping[str, Any],
    overrides: Sequence[str],
    labels: Iterable[str],
    own: Mapping[str, Sequence[str]],
) -> PlannedCosts:
    """The cost of each method on this experiment, by dry runs; ConfigError where no method can run."""
    settings = {label: own.get(label, ()) for label in labels}
    entrants, excluded = enter_all(tables, overrides, settings, [], None)
    demand_some(entrants, excluded, "run")
    return PlannedCosts(costs={one.label: planned(one) for one in entrants}, excluded=as_rows(excluded))


def compare_methods(
    tables: Mapping[str, Any],
    overrides: Sequence[str],
    methods: Iterable[str],
    own: Mapping[str, Sequence[str]],
    *,
    budgets: Sequence[str],
    seeds: int,
    jobs: int,
    max_rounds: int | None,
    out: Path,
    on_done: Callable[[Race, str | None, int], None],
) -> Comparison:
    """Runs every method that can take part; `on_done` is told of each run, and of how many there are.

    Raises ConfigError where no method can take part, PeerLost where every run failed.
    """
    settings = {label: own.get(label, ()) for label in labels_of(methods)}
    bounds = [parse_budget(text) for text in budgets]
    entrants, excluded = enter_all(tables, overrides, settings, bounds, max_rounds)
    demand_some(entrants, excluded, "take part")
    first = from_dict(tables, overrides).train.seed
    todo = races(entrants, range(first, first + seeds), out)
    failed: dict[str, str] = {}

    def done(race: Race, reason: str | None) -> None:
        if reason is not None:
            failed[f"{race.label}, seed {race.seed}"] = reason
        on_done(race, reason, len(todo))

    run_all(todo, jobs, done)
    found = standings(entrants, todo)
    if not found:
        raise PeerLost(f"every run failed; the first said: {next(iter(failed.values()))}")
    ended = [race for race in todo if race.summary() is not None]
    runs = {one.label: tuple(race.folder for race in ended if race.label == one.label) for one in found}
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
