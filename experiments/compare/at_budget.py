"""How good each entrant was when it had spent so much: of runs that went on, what they were by then."""

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
from splitfl.comparison.runs import Race
from splitfl.config import one_of
from splitfl.run_folder.read import read_run


@dataclass(frozen=True, kw_only=True)
class Within:
    """One entrant's metric for each seed at its last measurement within the amount, and what it had spent.

    Both are None for a seed that was not measured before it had spent more. `rounds` are those it had done.
    """

    label: str
    values: tuple[float | None, ...]
    spent: tuple[float | None, ...]
    rounds: tuple[int, ...]

    @property
    def found(self) -> tuple[float, ...]:
        """The values that there are."""
        return tuple(value for value in self.values if value is not None)

    @property
    def mean(self) -> float | None:
        """Over the seeds; None unless all of them were measured in time."""
        return fmean(self.found) if len(self.found) == len(self.values) else None


def check_spendable(budget: Budget) -> None:
    """ConfigError for what a run does not spend as it goes."""
    one_of("at", budget.kind, GROWING)


def within(found: Sequence[Standing], run: Sequence[Race], budget: Budget) -> list[Within]:
    """Every entrant with a finished run, the best first and those that were not measured in time last."""
    rows = [_within(one, [race for race in run if race.label == one.label], budget) for one in found]
    sign = -1.0 if BEST[found[0].metric] is max else 1.0
    return sorted(rows, key=lambda row: (row.mean is None, sign * (row.mean or 0.0)))


def as_table(rows: Sequence[Within], metric: str, budget: Budget) -> Table:
    """One row an entrant: who has spent less than there was had no more rounds, or none that fitted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    for name in (f"{metric} within {budget}", "spent by then", "rounds"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        if row.mean is None:
            table.add_row(row.label, "not measured in time", "", "")
            continue
        spent = fmean(value for value in row.spent if value is not None)
        shown = with_margin(metric, row.mean, margin_of(row.found))
        least, most = min(row.rounds), max(row.rounds)
        done = f"{least}..{most}" if least < most else str(least)
        table.add_row(row.label, shown, budget.shown(spent), done)
    return table


def as_json(rows: Sequence[Within]) -> list[dict[str, Any]]:
    """The same for a script."""
    return [
        {"label": row.label, "values": list(row.values), "spent": list(row.spent), "rounds": list(row.rounds)}
        for row in rows
    ]


def _within(standing: Standing, own: Sequence[Race], budget: Budget) -> Within:
    values: list[float | None] = []
    spent: list[float | None] = []
    rounds: list[int] = []
    for race in own:
        if race.summary() is None:
            continue
        run = read_run(race.folder)
        points, after = (curve(run, standing.metric, against) for against in (budget.kind, "rounds"))
        last = sum(x <= budget.most for x in points.xs) - 1
        values.append(points.ys[last] if last >= 0 else None)
        spent.append(points.xs[last] if last >= 0 else None)
        rounds.append(int(after.xs[last]) if last >= 0 else 0)
    return Within(label=standing.label, values=tuple(values), spent=tuple(spent), rounds=tuple(rounds))
