"""What a picture of a run shows: each function draws one thing into axes that it is given."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle

from matplotlib.axes import Axes

from experiments.report.drawing import MUTED, PALETTE, in_bytes, in_rounds, legend_above, say_empty
from experiments.report.gantt import COLOURS
from experiments.report.tally import Curve, airtime_by_client, bytes_by_kind, client_losses, curve, measured
from experiments.report.timeline import ACTIVITIES, mean_shares, spans_by_round
from splitfl.core.metrics import METRICS
from splitfl.core.quantities import metric_text
from splitfl.run_folder.read import RunRecord

MAX_CLIENTS = 12
"""More bars or lanes than this cannot be told apart; the rest become one bar, or are left out."""

MAX_MARKERS = 40
"""A curve of more points than this is drawn without markers."""

KINDS = ("Activation", "Gradient", "Adapter", "Control", "Scalars")
"""Message kinds in the order of their colours; a kind that is not here takes a colour after these."""

METRIC_LABELS = {name: one.label + " (nats)" * name.endswith("loss") for name, one in METRICS.items()}

SPENT_LABELS = {
    "rounds": "rounds completed",
    "bytes": "bytes sent, both directions",
    "airtime": "airtime of all clients (s)",
}


def draw_loss(axes: Axes, run: RunRecord) -> None:
    """Training loss, every client's own in grey, and held-out loss against rounds."""
    if not run.events.rounds:
        return say_empty(axes, "no round was completed")
    for number, own in enumerate(client_losses(run).values()):
        label = "each client" if number == 0 else None
        axes.plot(*own, color=MUTED, alpha=0.45, linewidth=0.9, label=label)
    _draw_curve(axes, curve(run, "train_loss"), color=PALETTE[0], marker="o", label="training")
    held_out = curve(run, "eval_loss")
    if held_out.xs:
        _draw_curve(axes, held_out, color=PALETTE[3], marker="s", linestyle="--", label="held out")
    in_rounds(axes)
    axes.set_ylabel("loss (nats)")
    legend_above(axes)


def draw_metric(axes: Axes, run: RunRecord, against: str) -> None:
    """The held-out metric against what was spent, its last value written out."""
    name = measured(run)
    if name is None:
        return say_empty(axes, "nothing was measured on held-out data")
    points = curve(run, name, against)
    _draw_curve(axes, points, color=PALETTE[2], marker="o")
    last = metric_text(name, points.ys[-1])
    end = (points.xs[-1], points.ys[-1])
    axes.annotate(last, end, (0, 8), textcoords="offset points", ha="right", fontweight="bold")
    axes.margins(y=0.15)
    _label_metric(axes, name)
    _label_spent(axes, against)


def draw_learning(axes: Axes, run: RunRecord) -> None:
    """Loss on the left scale and the held-out metric on the right one."""
    draw_loss(axes, run)
    name = measured(run)
    if name is not None:
        right = axes.twinx()
        _draw_curve(right, curve(run, name), color=PALETTE[2], marker="^")
        right.grid(visible=False)
        _label_metric(right, name)
        axes.plot([], [], color=PALETTE[2], marker="^", label=f"{METRIC_LABELS[name]} (right scale)")
        legend_above(axes, columns=2)


def draw_bytes(axes: Axes, run: RunRecord, direction: str) -> None:
    """One bar a client, stacked by message kind; from the thirteenth client on, one bar for their mean."""
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
    """Two bars, up and down, stacked by message kind, of all clients together."""
    up, down = bytes_by_kind(run, "up"), bytes_by_kind(run, "down")
    parts = {
        kind: [float(sum(way.get(kind, Counter()).values())) for way in (up, down)] for kind in {**up, **down}
    }
    _stack_across(axes, ["uplink", "downlink"], parts)


def draw_airtime(axes: Axes, run: RunRecord) -> None:
    """Seconds on the air in every round, stacked by client; where colours run out, one part for the rest."""
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
    """The seconds of every activity of the mean client in every round; they add up to the round."""
    by_round = spans_by_round(run)
    shares = [mean_shares(spans) for spans in by_round.values()]
    parts = {name: [row[name] for row in shares] for name in ACTIVITIES}
    _stack_up(axes, list(by_round), {name: row for name, row in parts.items() if any(row)}, COLOURS)
    axes.set_ylabel("virtual time, mean client (s)")


def draw_comparison(axes: Axes, runs: Sequence[RunRecord], metric: str, against: str) -> None:
    """A metric of several runs against what was spent, one line a run; see `draw_legend`."""
    for run, look in zip(runs, _looks(), strict=False):
        _draw_curve(axes, curve(run, metric, against), **look)
    _label_metric(axes, metric)
    _label_spent(axes, against)


def draw_legend(axes: Axes, names: Sequence[str], columns: int) -> None:
    """The lines of `draw_comparison` with the names of their runs."""
    axes.set_axis_off()
    for name, look in zip(names, _looks(), strict=False):
        _draw_curve(axes, Curve([], []), label=name, **look)
    axes.legend(loc="center left", ncols=columns, fontsize=12, borderaxespad=0, handlelength=2.6)


def _looks() -> Iterator[dict[str, str]]:
    """Colour, marker and dashes, for ever: no two of the first 105 are the same."""
    for colour, marker, dashes in zip(cycle(PALETTE), cycle("os^Dv"), cycle(("-", "--", "-.")), strict=False):
        yield {"color": colour, "marker": marker, "linestyle": dashes}


def _draw_curve(
    axes: Axes, points: Curve, *, marker: str, color: str, linestyle: str = "-", label: str = ""
) -> None:
    """A line with markers, as long as these can be told apart."""
    seen = marker if len(points.xs) <= MAX_MARKERS else ""
    axes.plot(points.xs, points.ys, color=color, linestyle=linestyle, label=label, marker=seen)


def _stack_across(axes: Axes, bars: Sequence[str], parts: Mapping[str, Sequence[float]]) -> None:
    """Horizontal bars of bytes, from the top down, one part for every message kind."""
    if not parts:
        return say_empty(axes, "nothing was sent")
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
    """One vertical bar a round, one part on top of the other."""
    if not parts:
        return say_empty(axes, "nothing was recorded")
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
