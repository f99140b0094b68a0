"""A simulated cell in the terminal: sparklines over time, quantiles, and a map.

Axes: B bins of time; U users.
"""

import numpy as np
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from channel.cell.cell import CellResult
from channel.cell.statistics import DirectionStatistics
from channel.core.arrays import Array
from channel.propagation.placement import hexagonal_sites
from channel.scenario.load import Scenario
from experiments.channel.map import losses_db
from splitfl.runtime.terminal import plain_console

_STEPS = " ▁▂▃▄▅▆▇█"
_BARS = 30
_WIDTH, _HEIGHT = 36, 15
"""The map's size; a unit of width is two characters, which are about twice as high as wide."""
_QUANTITIES = (
    ("sinr_db", "SINR, dB", 1.0, "{:.1f}"),
    ("scheme", "MCS", 1.0, "{:.1f}"),
    ("error_rate", "BLER", 1.0, "{:.3f}"),
    ("throughput_bps", "Mbit/s", 1e-6, "{:.2f}"),
)
_SHARES = (0.05, 0.5, 0.95)


def draw(made: Scenario, result: CellResult) -> None:
    """Prints link quantities over time, their quantiles, and a map or the matrix of path losses."""
    console = plain_console()
    table = Table(box=None, padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column("median user over time", no_wrap=True, min_width=_BARS)
    for share in _SHARES:
        table.add_column(f"{share:.0%} below", justify="right", no_wrap=True)
    for direction, outcome in result.outcomes.items():
        for number, (key, label, scale, form) in enumerate(_QUANTITIES):
            cells = _row(outcome, outcome.trace()[key] * scale, form)
            table.add_row(Text("" if number else direction, style="bold"), label, *cells)
    console.print(table)
    console.print(Panel(_losses(made) or _map(made, result), expand=False))


def bars(values: Array) -> str:
    """One character per value, scaled from minimum to maximum; a dot for nan."""
    known = values[np.isfinite(values)]
    if not known.size:
        return "·" * values.size
    span = float(np.ptp(known)) or 1.0
    level = np.nan_to_num((values - known.min()) / span) * (len(_STEPS) - 2)
    marks = [_STEPS[1 + round(float(one))] for one in level]
    return "".join(mark if np.isfinite(value) else "·" for mark, value in zip(marks, values, strict=True))


def _row(outcome: DirectionStatistics, value_BU: Array, form: str) -> tuple[str, ...]:
    known = value_BU[np.isfinite(value_BU)]
    if not outcome.tries.any() or not known.size:
        return ("nothing sent", *("" for _ in _SHARES))
    parts = np.array_split(value_BU, min(_BARS, len(value_BU)))
    middle = np.asarray([_median(part) for part in parts])
    return (bars(middle), *(form.format(float(np.quantile(known, share))) for share in _SHARES))


def _median(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _map(made: Scenario, result: CellResult) -> Text:
    """A map; two columns have the scale of one line."""
    place = result.position_U2
    marks = [("o" if len(place) > 10 else str(user), spot) for user, spot in enumerate(place)]
    if made.neighbours.rings:
        sites = hexagonal_sites(made.neighbours.rings, spacing_m=made.neighbours.spacing_m)[1:]
        marks = [("n", site) for site in sites] + marks
    if made.jammer.kind:
        marks.append(("X", np.asarray(made.jammer.position_m)))
    marks.append(("B", np.zeros(2)))
    spots = np.stack([spot for _, spot in marks])
    corner = np.asarray([spots[:, 0].min(), spots[:, 1].max()])
    metres = max(float(np.ptp(spots[:, 1])) / (_HEIGHT - 1), float(np.ptp(spots[:, 0])) / (_WIDTH - 1), 1e-9)
    column = np.rint((spots[:, 0] - corner[0]) / metres * 2).astype(int)
    line = np.rint((corner[1] - spots[:, 1]) / metres).astype(int)
    rows = [[" "] * (int(column.max()) + 1) for _ in range(int(line.max()) + 1)]
    for (mark, _), x, y in zip(marks, column, line, strict=True):
        rows[y][x] = mark
    users = "users by number" if len(place) <= 10 else "o users"
    legend = f"B base station, {users}, n neighbour, X jammer; a line is {metres:.3g} m"
    return Text("\n".join("".join(row).rstrip() for row in rows) + f"\n\n{legend}", no_wrap=True)


def _losses(made: Scenario) -> Text | None:
    """The matrix of path losses for scenarios without positions, else None."""
    loss_db = losses_db(made)
    if loss_db is None:
        return None
    if len(loss_db) > 20:
        return Text(
            f"{len(loss_db)} nodes; path losses from {np.nanmin(loss_db):.0f} to {np.nanmax(loss_db):.0f} dB"
        )
    names = ["B", *(str(user) for user in range(len(loss_db) - 1))]
    lines = ["path loss of each link in dB, senders down, receivers across, B the base station", ""]
    lines.append("    " + "".join(f"{name:>6}" for name in names))
    for name, row in zip(names, loss_db, strict=True):
        lines.append(
            f"{name:>4}" + "".join(f"{value:6.0f}" if np.isfinite(value) else "     ." for value in row)
        )
    return Text("\n".join(lines), no_wrap=True)
