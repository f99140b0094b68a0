"""CPU time per simulated second of a cell with ten to ten thousand users, and a plot of it.

The cell's construction is timed too; scheduling in every slot; CPU time of one thread.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from experiments.bench.cell_clock import costs_s, one_thread
from experiments.bench.fresh import Fresh
from experiments.bench.ratio import Figure, at_most, pair_ratios
from experiments.bench.setting import Setting

USERS = (10, 100, 1_000, 10_000)

_SIMULATED_S = 1.0
_QUICK_S = 0.5
_MOST_SWEEPS = 3
_MOST_GROWTH = 12.0
"""For ten times the users: linear growth is 10, or less while a constant cost matters."""

_BLUE, _INK = "#0072B2", "#333333"


def cell_scale(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """CPU seconds per simulated second for each of USERS, and the ratio of each to the one before."""
    duration_s, sweeps = (
        (_QUICK_S, 1) if setting.is_quick else (_SIMULATED_S, min(setting.sweeps, _MOST_SWEEPS))
    )
    costs = []
    for users in USERS:
        progress(f"{users:,} users")
        with one_thread(), Fresh(setting.folder / "cell.log", costs_s, users, duration_s, sweeps) as process:
            costs.append(tuple(process.take(1200.0)))
            process.go()
    seconds = [Figure(what=_cost_of(users), ratios=cost) for users, cost in zip(USERS, costs, strict=True)]
    growth = [
        Figure(
            what=f"the cost of {more:,} users / of {fewer:,}",
            ratios=pair_ratios(costs[row + 1], costs[row]),
            target=at_most(_MOST_GROWTH),
        )
        for row, (fewer, more) in enumerate(pairwise(USERS))
    ]
    return [*seconds, *growth]


def picture(figures: Sequence[Figure], path: Path) -> None:
    """Plots CPU seconds over users, both axes logarithmic, with a line for linear growth."""
    seconds = {figure.what: figure.median for figure in figures}
    costs = [seconds[_cost_of(users)] for users in USERS]
    drawing = Picture(figsize=(6.4, 4.4), layout="constrained", facecolor="white")
    FigureCanvasAgg(drawing)
    axes = drawing.add_subplot()
    axes.loglog(USERS, [costs[-1] * users / USERS[-1] for users in USERS], "--", color=_INK, linewidth=1)
    axes.loglog(USERS, costs, "o-", color=_BLUE)
    axes.annotate(
        "linear in users",
        (USERS[1], costs[-1] * USERS[1] / USERS[-1]),
        (8, -10),
        textcoords="offset points",
        color=_INK,
        fontsize=9,
    )
    for users, cost in zip(USERS, costs, strict=True):
        axes.annotate(
            f"{cost:.2g} s",
            (users, cost),
            (0, 9),
            textcoords="offset points",
            ha="center",
            color=_BLUE,
            fontsize=9,
        )
    axes.set_xlabel("users of the cell")
    axes.set_ylabel("CPU seconds per simulated second")
    axes.set_xlim(USERS[0] / 2, USERS[-1] * 2)
    axes.set_ylim(bottom=min(costs) / 4, top=max(costs) * 3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(which="major", color="#DDDDDD", linewidth=0.6)
    drawing.savefig(path, dpi=160)


def _cost_of(users: int) -> str:
    return f"CPU s per simulated second, {users:,} users"
