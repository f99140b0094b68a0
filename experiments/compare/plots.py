"""Plots of a comparison: metric against spending, and Pareto fronts."""

import math
from collections.abc import Callable, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator

from experiments.report.drawing import MUTED, PALETTE, canvas, house_style, to_svg
from experiments.report.panels import METRIC_LABELS
from experiments.report.tally import curve
from splitfl.comparison.ranking import Standing, cost, pareto
from splitfl.comparison.runs import SeedRun
from splitfl.core.metrics import METRICS
from splitfl.run_folder.read import read_run

SPENT = {
    "bytes": ("bytes sent, both directions", "B"),
    "airtime": ("airtime of all clients", "s"),
    "energy": ("energy radiated", "J"),
    "memory": ("memory of a client", "B"),
}
GROWING = ("bytes", "airtime", "energy")
"""Keys of `SPENT` that accumulate during a run."""

_MARKERS = {"-": "o", "--": "s", "-.": "^", ":": "D"}
"""The marker for each line style."""

_DECADES_WITH_2_AND_5 = 2.5


def curves(found: Sequence[Standing], runs: Sequence[SeedRun], spent: str) -> str:
    """Metric against spending: mean over seeds, with the range as a band."""
    return _plot(f"curves-{spent}", 526, 320, lambda axes: draw_curves(axes, found, runs, spent))


def fronts(found: Sequence[Standing], spent: str) -> str:
    """Each method at its total spending, with the range over seeds; a line along the Pareto front."""
    return _plot(f"front-{spent}", 526, 320, lambda axes: draw_front(axes, found, spent))


def figure_of(found: Sequence[Standing], runs: Sequence[SeedRun]) -> Figure:
    """Curves and fronts for all kinds of spending in one figure, for a PNG file."""
    columns = spent_at_all(found)
    figure = canvas(560 * len(columns), 720)
    figure.set_facecolor("white")
    for (above, below), spent in zip(figure.subplots(2, len(columns), squeeze=False).T, columns, strict=True):
        draw_front(below, found, spent)
        if spent in GROWING:
            draw_curves(above, found, runs, spent)
        else:
            above.set_axis_off()
    return figure


def spent_at_all(found: Sequence[Standing]) -> list[str]:
    """Keys of `SPENT` with nonzero spending; a link without a rate limit has no airtime."""
    return [spent for spent in SPENT if any(cost(one, spent) for one in found)]


def draw_curves(axes: Axes, found: Sequence[Standing], runs: Sequence[SeedRun], spent: str) -> None:
    """See `curves`."""
    for standing, (colour, dashes) in zip(found, _styles(), strict=False):
        points = [
            curve(read_run(seed_run.folder), standing.metric, spent)
            for seed_run in runs
            if seed_run.label == standing.label and seed_run.seed in standing.seeds
        ]
        xs = np.mean([one.xs for one in points], axis=0)
        ys = np.array([one.ys for one in points])
        axes.plot(xs, ys.mean(axis=0), color=colour, linestyle=dashes, label=standing.label)
        if len(points) > 1:
            axes.fill_between(xs, ys.min(axis=0), ys.max(axis=0), color=colour, alpha=0.15, linewidth=0)
    axes.set_xscale("log")
    _label(axes, found, spent)
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.8)


def draw_front(axes: Axes, found: Sequence[Standing], spent: str) -> None:
    """See `fronts`."""
    front = pareto(found, spent)
    axes.plot(
        [cost(one, spent) for one in front], [one.mean for one in front], color=MUTED, linewidth=1.2, zorder=1
    )
    for standing, (colour, dashes) in zip(found, _styles(), strict=False):
        ranges = [[standing.mean - min(standing.values)], [max(standing.values) - standing.mean]]
        axes.errorbar(
            cost(standing, spent), standing.mean, yerr=ranges, fmt=_MARKERS[dashes], color=colour, capsize=3,
            zorder=2, label=standing.label,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.1, y=0.1)
    _label(axes, found, spent)
    legend = axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=1.0)
    for text in legend.get_texts():
        text.set_fontweight("bold" if text.get_text() in {one.label for one in front} else "normal")


def _label(axes: Axes, found: Sequence[Standing], spent: str) -> None:
    label, unit = SPENT[spent]
    metric = found[0].metric
    axes.set_xlabel(label)
    axes.autoscale_view()
    least, most = axes.get_xlim()
    is_wide = math.log10(most / least) > _DECADES_WITH_2_AND_5
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if is_wide else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(EngFormatter(unit=unit))
    axes.xaxis.set_minor_formatter(lambda _x, _position: "")
    axes.set_ylabel(METRIC_LABELS[metric])
    if METRICS[metric].is_share:
        axes.yaxis.set_major_formatter(lambda ratio, _: f"{100 * ratio:.4g} %")


def _styles() -> list[tuple[str, str]]:
    colours = cycle(PALETTE)
    return [(next(colours), dashes) for dashes in ("-", "--", "-.", ":") for _ in PALETTE]


def _plot(name: str, width_px: float, height_px: float, draw: Callable[[Axes], None]) -> str:
    with house_style():
        figure = canvas(width_px, height_px)
        draw(figure.subplots())
        return to_svg(figure, name)
