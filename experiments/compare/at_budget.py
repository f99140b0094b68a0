"""Each entrant's metric within a budget, from runs that may have spent more in total."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from experiments.compare.plots import GROWING
from experiments.compare.standings_table import with_margin
from experiments.report.tally import curve
from splitfl.comparison.budget import Budget
from splitfl.comparison.ranking import BEST, Standing, margin_of
from splitfl.comparison.runs import SeedRun
from splitfl.config import one_of
from splitfl.run_folder.read import read_run


@dataclass(frozen=True, kw_only=True)
class WithinBudget:
    """An entrant's metric, spending and completed rounds per seed at the last evaluation within the budget.

    Metric and spending are None for a seed without an evaluation within the budget.
    """

    label: str
    values: tuple[float | None, ...]
    spent: tuple[float | None, ...]
    rounds: tuple[int, ...]

    @property
    def found(self) -> tuple[float, ...]:
        """The metrics of seeds with an evaluation within the budget."""
        return tuple(value for value in self.values if value is not None)

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None unless all have an evaluation within the budget."""
        return fmean(self.found) if len(self.found) == len(self.values) else None


def check_spendable(budget: Budget) -> None:
    """Raises ConfigError for a budget that does not accumulate during a run."""
    one_of("at", budget.kind, GROWING)


def within(found: Sequence[Standing], runs: Sequence[SeedRun], budget: Budget) -> list[WithinBudget]:
    """A row for every entrant with a finished run, best first, those without a mean last."""
    rows = [
        _within(one, [seed_run for seed_run in runs if seed_run.label == one.label], budget) for one in found
    ]
    sign = -1.0 if BEST[found[0].metric] is max else 1.0
    return sorted(rows, key=lambda row: (row.mean is None, sign * (row.mean or 0.0)))


def as_table(rows: Sequence[WithinBudget], metric: str, budget: Budget) -> Table:
    """One row per entrant; spending may be below the budget if no further round fitted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    for name in (f"{metric} within {budget}", "spent", "rounds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.mean is None:
            table.add_row(row.label, "not evaluated within the budget", "", "")
            continue
        spent = fmean(value for value in row.spent if value is not None)
        shown = with_margin(metric, row.mean, margin_of(row.found))
        least, most = min(row.rounds), max(row.rounds)
        done = f"{least}..{most}" if least < most else str(least)
        table.add_row(row.label, shown, budget.shown(spent), done)
    return table


def as_json(rows: Sequence[WithinBudget]) -> list[dict[str, Any]]:
    """The rows as plain data, for JSON."""
    return [
        {"label": row.label, "values": list(row.values), "spent": list(row.spent), "rounds": list(row.rounds)}
        for row in rows
    ]


def _within(standing: Standing, own: Sequence[SeedRun], budget: Budget) -> WithinBudget:
    values: list[float | None] = []
    spent: list[float | None] = []
    rounds: list[int] = []
    for seed_run in own:
        if seed_run.summary() is None:
            continue
        run = read_run(seed_run.folder)
        points, after = (curve(run, standing.metric, against) for against in (budget.kind, "rounds"))
        last = sum(x <= budget.limit for x in points.xs) - 1
        values.append(points.ys[last] if last >= 0 else None)
        spent.append(points.xs[last] if last >= 0 else None)
        rounds.append(int(after.xs[last]) if last >= 0 else 0)
    return WithinBudget(label=standing.label, values=tuple(values), spent=tuple(spent), rounds=tuple(rounds))
