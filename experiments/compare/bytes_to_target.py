"""Bytes until each entrant first reaches a target metric: all clients, both directions."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from rich.table import Table

from experiments.report.tally import curve
from splitfl.comparison.ranking import BEST, Standing
from splitfl.comparison.runs import SeedRun
from splitfl.core.quantities import bytes_text, metric_text
from splitfl.run_folder.read import read_run


@dataclass(frozen=True, kw_only=True)
class BytesToTarget:
    """An entrant's bytes per seed, None for a seed that did not reach the target."""

    label: str
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Mean over seeds; None unless all reached the target."""
        found = [value for value in self.values if value is not None]
        return fmean(found) if len(found) == len(self.values) else None


def reached(found: Sequence[Standing], runs: Sequence[SeedRun], target: float) -> list[BytesToTarget]:
    """A row for every entrant with a finished run, fewest bytes first, those without a mean last."""
    rows = [
        BytesToTarget(
            label=one.label,
            values=tuple(
                _bytes_until(seed_run, one.metric, target)
                for seed_run in runs
                if seed_run.label == one.label and seed_run.summary() is not None
            ),
        )
        for one in found
    ]
    return sorted(rows, key=lambda row: (row.mean is None, row.mean or 0.0))


def as_table(rows: Sequence[BytesToTarget], metric: str, target: float) -> Table:
    """One row per entrant, with its bytes relative to the first row's."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    for name in (f"bytes to {metric} {metric_text(metric, target)}", "relative to best", "seeds"):
        table.add_column(name, justify="right", no_wrap=True)
    least = rows[0].mean
    for row in rows:
        got = sum(value is not None for value in row.values)
        shown = "not reached" if row.mean is None else bytes_text(row.mean)
        times = "" if row.mean is None or least is None else f"{row.mean / least:.2f}"
        table.add_row(row.label, shown, times, f"{got} of {len(row.values)}")
    return table


def as_json(rows: Sequence[BytesToTarget]) -> list[dict[str, Any]]:
    """The rows as plain data, for JSON."""
    return [{"label": row.label, "bytes": list(row.values), "mean": row.mean} for row in rows]


def _bytes_until(seed_run: SeedRun, metric: str, target: float) -> float | None:
    points = curve(read_run(seed_run.folder), metric, "bytes")
    is_most = BEST[metric] is max
    return next(
        (x for x, y in zip(points.xs, points.ys, strict=True) if (y >= target if is_most else y <= target)),
        None,
    )
