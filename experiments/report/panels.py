"""Panels of a run's plots: each function draws one into given axes."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

from experiments.report.drawing import MUTED, PALETTE, draw_empty, in_bytes, in_rounds, legend_above
from experiments.report.gantt import COLOURS
from experiments.report.tally import (
    MetricCurve,
    airtime_by_client,
    bytes_by_kind,
    client_losses,
    curve,
    measured,
)
from experiments.report.timeline import ACTIVITIES, mean_shares, spans_by_round
from splitfl.core.metrics import METRICS
from splitfl.core.quantities import metric_text
from splitfl.run_folder.read import RunRecord

MAX_CLIENTS = 12
"""Maximum number of bars or lanes; the rest become one bar, or are omitted."""

MAX_LINES = 40
"""Maximum number of clients whose training losses are drawn one by one."""

MAX_MARKERS = 40
"""A curve with more points is drawn without markers."""

KINDS = ("Activation", "Gradient", "Adapter", "Control", "Scalars")
"""Message kinds in the order of their colours; other kinds have the colours after these."""

METRIC_LABELS = {name: one.label + " (nats)" * name.endswith("loss") for name, one in METRICS.items()}

SPENT_LABELS = {
    "rounds": "rounds completed",
    "bytes": "bytes sent, both directions",
    "airtime": "airtime of all clients (s)",
}


def draw_loss(axes: Axes, run: RunRecord) -> None:
    """Training loss (the clients' in grey) and held-out loss against rounds."""
    if not run.events.rounds:
        return draw_empty(axes, "no round was completed")
    _draw_client_losses(axes, client_losses(run))
    _draw_curve(axes, curve(run, "train_loss"), color=PALETTE[0], marker="o", label="training")
    held_out = curve(run, "eval_loss")
    if held_out.xs:
        _draw_curve(axes, held_out, color=PALETTE[3], marker="s", linestyle="--", label="held out")
    in_rounds(axes)
    axes.set_ylabel("loss (nats)")
    legend_above(axes)


def draw_metric(axes: Axes, run: RunRecord, against: str) -> None:
    """The held-out metric against spending, with its last value as text."""
    name = measured(run)
    if name is None:
        return draw_empty(axes, "nothing was measured on held-out data")
    points = curve(run, name, against)
    _draw_curve(axes, points, color=PALETTE[2], marker="o")
    last = metric_text(name, points.ys[-1])
    end = (points.xs[-1], points.ys[-1])
    axes.annotate(last, end, (0, 8), textcoords="offset points", ha="right", fontweight="bold")
    axes.margins(y=0.15)
    _label_metric(axes, name)
    _label_spent(axes, against)


def draw_learning(axes: Axes, run: RunRecord) -> None:
    """Loss on the left axis and the held-out metric on the right one."""
    draw_loss(axes, run)
    name = measured(run)
    if name is not None:
        right = axes.twinx()
        _draw_curve(right, curve(run, name), color=PALETTE[2], marker="^")
        right.grid(visible=False)
        _label_metric(right, name)
        axes.plot([], [], color=PALETTE[2], marker="^", label=f"{METRIC_LABELS[name]} (right axis)")
        legend_above(axes, columns=2)


def draw_bytes(axes: Axes, run: RunRecord, direction: str) -> None:
    """One bar per client, stacked by message kind; clients beyond MAX_CLIENTS share one bar of their mean."""
    counted = bytes_by_kind(run, direction)
    shown, others = run.clients[:MAX_CLIENTS], run.clients[MAX_CLIENTS:]
    bars = [f"client {client}" for client in shown] + ([f"mean of {len(others)} others"] if others else [])
    parts = {}
    for kind, row in counted.items():
        parts[kind] = [float(row[client]) for client in shown]
        parts[kind] += [sum(row[client] for client in others) / len(others)] if others else []
    _stack_across(axes, bars, parts)
    axes.set_title("Uplink" if direction == "up" else "Downlink", pad=26)


def draw_sent(axes: Axes, run: RunRecord) -> None:
    """Uplink and downlink bytes of all clients, stacked by message kind."""
    up, down = bytes_by_kind(run, "up"), bytes_by_kind(run, "down")
    parts = {
        kind: [float(sum(counts.get(kind, Counter()).values())) for counts in (up, down)]
        for kind in {**up, **down}
    }
    _stack_across(axes, ["uplink", "downlink"], parts)


def draw_airtime(axes: Axes, run: RunRecord) -> None:
    """Airtime in seconds of every round, stacked by client; clients beyond the palette share one part."""
    seconds = [(f"client {client}", Counter(row)) for client, row in airtime_by_client(run).items()]
    if len(seconds) > len(PALETTE):
        rest: Counter[int] = Counter()
        for _, row in seconds[len(PALETTE) :]:
            rest.update(row)
        seconds = [*seconds[: len(PALETTE)], (f"{len(seconds) - len(PALETTE)} others", rest)]
    rounds = sorted({number for _, row in seconds for number in row})
    colours = dict(zip((name for name, _ in seconds), (*PALETTE, MUTED), strict=False))
    _stack_up(axes, rounds, {name: [row[number] for number in rounds] for name, row in seconds}, colours)
    axes.set_ylabel("airtime (s)")


def draw_time_shares(axes: Axes, run: RunRecord) -> None:
    """Seconds of each activity in every round, averaged over clients; they sum to the round's length."""
    by_round = spans_by_round(run)
    shares = [mean_shares(spans) for spans in by_round.values()]
    parts = {name: [row[name] for row in shares] for name in ACTIVITIES}
    _stack_up(axes, list(by_round), {name: row for name, row in parts.items() if any(row)}, COLOURS)
    axes.set_ylabel("virtual time, mean client (s)")


def draw_comparison(axes: Axes, runs: Sequence[RunRecord], metric: str, against: str) -> None:
    """A metric of several runs against spending, one line per run; see `draw_legend`."""
    for run, style in zip(runs, _styles(), strict=False):
        _draw_curve(axes, curve(run, metric, against), **style)
    _label_metric(axes, metric)
    _label_spent(axes, against)


def draw_legend(axes: Axes, names: Sequence[str], columns: int) -> None:
    """The legend of `draw_comparison`: line styles and run names."""
    axes.set_axis_off()
    for name, style in zip(names, _styles(), strict=False):
        _draw_curve(axes, MetricCurve([], []), label=name, **style)
    axes.legend(loc="center left", ncols=columns, fontsize=12, borderaxespad=0, handlelength=2.6)


def _styles() -> Iterator[dict[str, str]]:
    """An endless series of colour, marker and dash style; the first 105 are distinct."""
    for colour, marker, dashes in zip(cycle(PALETTE), cycle("os^Dv"), cycle(("-", "--", "-.")), strict=False):
        yield {"color": colour, "marker": marker, "linestyle": dashes}


def _draw_client_losses(axes: Axes, curves: Mapping[int, MetricCurve]) -> None:
    """A line for each client; of more than MAX_LINES the range of the middle 80 % in each round."""
    if len(curves) <= MAX_LINES:
        for number, client_curve in enumerate(curves.values()):
            label = "each client" if number == 0 else None
            axes.plot(*client_curve, color=MUTED, alpha=0.45, linewidth=0.9, label=label)
        return
    by_round: defaultdict[float, list[float]] = defaultdict(list)
    for client_curve in curves.values():
        for finished, loss in zip(*client_curve, strict=True):
            by_round[finished].append(loss)
    rounds = sorted(by_round)
    low, high = np.transpose([np.quantile(by_round[finished], (0.1, 0.9)) for finished in rounds])
    axes.fill_between(rounds, low, high, color=MUTED, alpha=0.3, linewidth=0, label="middle 80 % of clients")


def _draw_curve(
    axes: Axes, points: MetricCurve, *, marker: str, color: str, linestyle: str = "-", label: str = ""
) -> None:
    """A line, with markers up to MAX_MARKERS points."""
    markers = marker if len(points.xs) <= MAX_MARKERS else ""
    axes.plot(points.xs, points.ys, color=color, linestyle=linestyle, label=label, marker=markers)


def _stack_across(axes: Axes, bars: Sequence[str], parts: Mapping[str, Sequence[float]]) -> None:
    """Horizontal bars of bytes, top to bottom, stacked by message kind."""
    if not parts:
        return draw_empty(axes, "nothing was sent")
    order = [*KINDS, *sorted(set(parts) - set(KINDS))]
    left = [0.0] * len(bars)
    for kind in sorted(parts, key=order.index):
        colour = PALETTE[order.index(kind) % len(PALETTE)]
        axes.barh(range(len(bars)), parts[kind], left=left, color=colour, label=kind, height=0.66)
        left = [start + width for start, width in zip(left, parts[kind], strict=True)]
    axes.set_yticks(range(len(bars)), bars)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_xlabel("bytes sent, after encoding")
    axes.grid(visible=False, axis="y")
    in_bytes(axes, "x")
    legend_above(axes, columns=4)


def _stack_up(
    axes: Axes, rounds: Sequence[int], parts: Mapping[str, Sequence[float]], colours: Mapping[str, str]
) -> None:
    """One stacked vertical bar per round."""
    if not parts:
        return draw_empty(axes, "nothing was recorded")
    places = [number + 1 for number in rounds]
    bottom = [0.0] * len(rounds)
    for name, heights in parts.items():
        axes.bar(places, heights, bottom=bottom, color=colours[name], label=name, width=0.72)
        bottom = [start + height for start, height in zip(bottom, heights, strict=True)]
    axes.set_xlim(min(places) - 0.9, max(places) + 0.9)
    axes.grid(visible=False, axis="x")
    in_rounds(axes)
    axes.set_xlabel("round")
    legend_above(axes)


def _label_metric(axes: Axes, name: str) -> None:
    axes.set_ylabel(METRIC_LABELS[name])
    if METRICS[name].is_share:
        axes.yaxis.set_major_formatter(lambda ratio, _: f"{100 * ratio:.4g} %")


def _label_spent(axes: Axes, against: str) -> None:
    if against == "rounds":
        return in_rounds(axes)
    axes.set_xlabel(SPENT_LABELS[against])
    axes.set_xlim(left=0)
    if against == "bytes":
        in_bytes(axes, "x")
