"""Plots of a simulated cell: SINR, MCS, BLER and throughput over time, distributions, and a map.

Axes: B bins of time; U users.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from channel.cell.cell import CellResult
from channel.cell.statistics import DirectionStatistics
from channel.core.arrays import Array
from channel.core.errors import BadParameter
from channel.scenario.load import Scenario
from experiments.channel.map import draw_map

SUFFIXES = (".png", ".svg", ".pdf")
DIRECTIONS = {"up": ("#0072B2", "uplink"), "down": ("#D55E00", "downlink")}
"""Blue and vermilion of Okabe and Ito's palette: distinguishable with any colour vision, and in grey."""
_INK, _PALE = "#333333", "#DDDDDD"
_LINES = 6
"""Number of single users' lines per panel; the median and the band include all users."""
_ROWS = 60
"""Maximum number of points along the time axis."""

_PANELS = (
    ("sinr_db", "effective SINR (dB)", 1.0),
    ("scheme", "MCS index", 1.0),
    ("error_rate", "block error rate", 1.0),
    ("throughput_bps", "throughput (Mbit/s)", 1e-6),
)


def write(path: Path, name: str, made: Scenario, result: CellResult) -> Path:
    """Writes the plots in the format of the suffix; returns the path.

    A row for each quantity: over time up and down, and its distribution; a map and the users' rates below.
    Raises BadParameter for a suffix not in SUFFIXES.
    """
    demand_suffix(path)
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(14.0, 15.0), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(2.6, 1.0))[:, 0]
    axes = top.subplots(len(_PANELS), 3, width_ratios=(1.0, 1.0, 0.75))
    for panel, (key, label, scale) in enumerate(_PANELS):
        axes[panel, 1].sharey(axes[panel, 0])
        for column, (direction, outcome) in enumerate(result.outcomes.items()):
            _over_time(axes[panel, column], outcome, _smoothed(outcome, key) * scale, direction)
        axes[panel, 0].set_ylabel(label, color=_INK)
        _distribution(
            axes[panel, 2],
            {
                direction: outcome.trace()[key] * scale
                for direction, outcome in result.outcomes.items()
                if outcome.tries.any()
            },
            label,
        )
    legend = {"fontsize": 8, "ncols": 3, "handlelength": 1.2, "columnspacing": 1.2, "frameon": False}
    axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), **legend)
    for column, direction in enumerate(result.outcomes):
        axes[0, column].set_title(
            DIRECTIONS[direction][1], color=DIRECTIONS[direction][0], loc="left", fontweight="bold"
        )
        axes[-1, column].set_xlabel("time (s)")
    axes[0, 2].set_title("distribution over users and time", color=_INK, loc="left", fontweight="bold")
    left, right = bottom.subplots(1, 2, width_ratios=(1.0, 1.1))
    draw_map(left, made, result)
    _rates(right, result)
    figure.suptitle(f"{name}: {made.about}", color=_INK, fontsize=14, fontweight="bold")
    figure.savefig(path, dpi=110)
    return path


def demand_suffix(path: Path) -> None:
    """Raises BadParameter unless the suffix is in SUFFIXES."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadParameter(f"a plot's file name must end in {', '.join(SUFFIXES)}, got {path.name!r}")


def _smoothed(outcome: DirectionStatistics, key: str) -> Array:
    """The trace of a quantity (B, U), averaged over adjacent bins down to at most _ROWS rows."""
    value_BU, weight_BU = outcome.trace()[key], np.maximum(outcome.tries_BU, 1e-9)
    if key == "throughput_bps":
        weight_BU = np.ones_like(value_BU)
    joined = -(-value_BU.shape[0] // _ROWS)
    edges = np.arange(0, value_BU.shape[0], joined)
    known = np.where(np.isfinite(value_BU), value_BU, 0.0)
    weight = np.where(np.isfinite(value_BU), weight_BU, 0.0)
    total, share = (np.add.reduceat(one, edges, axis=0) for one in (known * weight, weight))
    return np.asarray(np.divide(total, share, out=np.full(total.shape, np.nan), where=share > 0.0))


def _over_time(axes: Axes, outcome: DirectionStatistics, value_BU: Array, direction: str) -> None:
    time_s = (np.arange(value_BU.shape[0]) + 0.5) * (outcome.bin_end_s[-1] / value_BU.shape[0])
    users, colour = value_BU.shape[1], DIRECTIONS[direction][0]
    axes.set_xlim(0.0, float(outcome.bin_end_s[-1]))
    plain(axes)
    if not outcome.tries.any():
        axes.text(0.5, 0.5, "nothing sent", transform=axes.transAxes, ha="center", color=_INK)
        return
    seen_B = np.isfinite(value_BU).any(axis=1)
    if seen_B.any():
        low, middle, high = np.nanquantile(value_BU[seen_B], (0.1, 0.5, 0.9), axis=1)
        if users > _LINES:
            axes.fill_between(
                time_s[seen_B], low, high, color=colour, alpha=0.2, linewidth=0, label="8 in 10 users"
            )
        axes.plot(time_s[seen_B], middle, color=colour, linewidth=2.2, label="median user", zorder=3)
    for number, user in enumerate(np.linspace(0, users - 1, min(users, _LINES)).round().astype(int)):
        label = "single users" if not number else None
        axes.plot(time_s, value_BU[:, user], color=_INK, linewidth=0.6, alpha=0.5, label=label)


def _distribution(axes: Axes, by_direction: dict[str, Array], label: str) -> None:
    for direction, value_BU in by_direction.items():
        known = np.sort(value_BU[np.isfinite(value_BU)])
        if known.size:
            share = np.arange(1, known.size + 1) / known.size
            axes.step(known, share, where="post", color=DIRECTIONS[direction][0], linewidth=1.8)
    axes.set(xlabel=label, ylim=(0.0, 1.0))
    axes.set_ylabel("share below")
    plain(axes)


def _rates(axes: Axes, result: CellResult) -> None:
    """A bar per direction for every user, or for many users the sorted rates."""
    users = next(iter(result.outcomes.values())).tries.size
    for offset, (direction, outcome) in zip((-0.2, 0.2), result.outcomes.items(), strict=True):
        colour, label = DIRECTIONS[direction]
        rate = outcome.throughput_bps / 1e6
        if users <= 30:
            axes.bar(np.arange(users) + offset, rate, 0.38, color=colour, label=label)
        else:
            axes.plot(np.sort(rate)[::-1], color=colour, linewidth=2.0, label=label)
    axes.set_xlabel("user" if users <= 30 else "users, the fastest first")
    axes.set_ylabel("mean throughput (Mbit/s)")
    axes.set_title("throughput by user", color=_INK, loc="left", fontweight="bold")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False)
    plain(axes)


def plain(axes: Axes) -> None:
    """Left and bottom axes only, with a pale grid in the background."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_INK)
    axes.grid(color=_PALE, linewidth=0.6)
    axes.set_axisbelow(True)
