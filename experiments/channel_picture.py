"""A picture of a simulated cell: what users heard and got over time, its distribution, and where they are."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from channel.cell import Result
from channel.outcome import Outcome
from channel.scenario import Scenario
from channel.values import Array

_SHOWN = 5
"""How many users' lines a panel has, spread over the list; the distributions have everybody's."""

_PANELS = (
    ("sinr_db", "effective SINR, dB", 1.0),
    ("scheme", "MCS", 1.0),
    ("error_rate", "expected block error rate", 1.0),
    ("throughput_bps", "throughput, Mbit/s", 1e-6),
)


def write(path: Path, name: str, made: Scenario, result: Result) -> Path:
    """Writes a PNG (or what the suffix says) and gives its path. A column a direction, a map at the end."""
    figure = Figure(figsize=(15.0, 13.0), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(_PANELS), 3)
    for column, (direction, outcome) in enumerate(result.outcomes.items()):
        for row, (key, label, scale) in enumerate(_PANELS):
            _lines(axes[row, column], outcome, outcome.trace()[key] * scale, label, direction)
    for row, (key, label, scale) in enumerate(_PANELS[:1] + _PANELS[3:]):
        _distribution(axes[row, 2], result, key, label, scale)
    _map(axes[2, 2], result)
    _shares(axes[3, 2], result)
    figure.suptitle(f"{name}: {made.about}")
    figure.savefig(path, dpi=90)
    return path


def _lines(axes: Axes, outcome: Outcome, value_BU: Array, label: str, direction: str) -> None:
    users = outcome.tries.size
    for user in np.unique(np.linspace(0, users - 1, min(users, _SHOWN)).round().astype(int)):
        axes.plot(
            outcome.bin_end_s, value_BU[:, user], ".-", markersize=3, linewidth=0.8, label=f"user {user}"
        )
    axes.set(xlabel="time, s", ylabel=label)
    axes.set_title(direction, loc="left")
    # Above the panel, where no line can hide behind it.
    axes.legend(fontsize=6, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=_SHOWN, frameon=False)


def _distribution(axes: Axes, result: Result, key: str, label: str, scale: float) -> None:
    for direction, outcome in result.outcomes.items():
        value = outcome.trace()[key] * scale
        known = np.sort(value[np.isfinite(value)])
        axes.plot(known, (np.arange(known.size) + 1.0) / max(known.size, 1), label=f"{direction}link")
    axes.set(xlabel=label, ylabel="share of users and bins below", ylim=(0.0, 1.0))
    axes.legend(fontsize=7)


def _map(axes: Axes, result: Result) -> None:
    place = result.position_U2
    dots = axes.scatter(place[:, 0], place[:, 1], c=result.mean_sinr_db["down"], s=30)
    axes.plot(0.0, 0.0, "k^", markersize=10)
    for user in range(min(len(place), 20)):
        axes.annotate(str(user), (place[user, 0], place[user, 1]), fontsize=7)
    axes.set(xlabel="x, m", ylabel="y, m", title="users at the start, and the base station")
    axes.set_aspect("equal", adjustable="datalim")
    axes.figure.colorbar(dots, ax=axes, label="mean downlink SINR, dB")


def _shares(axes: Axes, result: Result) -> None:
    for offset, (direction, outcome) in zip((-0.2, 0.2), result.outcomes.items(), strict=True):
        axes.bar(
            np.arange(outcome.tries.size) + offset,
            outcome.throughput_bps / 1e6,
            0.4,
            label=f"{direction}link",
        )
    axes.set(xlabel="user", ylabel="mean throughput, Mbit/s")
    axes.legend(fontsize=7)
