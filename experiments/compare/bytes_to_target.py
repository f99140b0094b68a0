"""What each entrant had sent when it first was as good as asked for: bytes of all clients, both ways."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from experiments.report.tally import curve
from splitfl.comparison.ranking import BEST, Standing
from splitfl.comparison.runs import Race
from splitfl.core.quantities import bytes_text, metric_text
from splitfl.run_folder.read import read_run


@dataclass(frozen=True, kw_only=True)
class Reached:
    """One entrant's bytes for each seed, None for one that never was as good."""

    label: str
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Over the seeds; None unless all of them got there."""
        found = [value for value in self.values if value is not None]
        return fmean(found) if len(found) == len(self.values) else None


def reached(found: Sequence[Standing], run: Sequence[Race], target: float) -> list[Reached]:
    """Every entrant with a finished run, the fewest bytes first and those that never got there last."""
    rows = [
        Reached(label=one.label, values=tuple(_bytes_until(race, one.metric, target) for race in run
                                              if race.label == one.label and race.summary() is not None))
        for one in found
    ]  # fmt: skip
    return sorted(rows, key=lambda row: (row.mean is None, row.mean or 0.0))


def as_table(rows: Sequence[Reached], metric: str, target: float) -> Table:
    """One row an entrant, with how many times the first one's bytes it took."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    for name in (f"bytes to {metric} {metric_text(metric, target)}", "times the least", "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    least = rows[0].mean
    for row in rows:
        got = sum(value is not None for value in row.values)
        shown = "not reached" if row.mean is None else bytes_text(row.mean)
        times = "" if row.mean is None or least is None else f"{row.mean / least:.2f}"
        table.add_row(row.label, shown, times, f"{got} of {len(row.values)}")
    return table


def as_json(rows: Sequence[Reached]) -> list[dict[str, Any]]:
    """The same for a script."""
    return [{"label": row.label, "bytes": list(row.values), "mean": row.mean} for row in rows]


def _bytes_until(race: Race, metric: str, target: float) -> float | None:
    points = curve(read_run(race.folder), metric, "bytes")
    is_most = BEST[metric] is max
    return next(
        (x for x, y in zip(points.xs, points.ys, strict=True) if (y >= target if is_most else y <= target)),
        None,
    )
