"""A Gantt chart of one round: a lane for every client and one for the server."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from experiments.report.drawing import IDLE, MUTED, PALETTE, draw_empty, legend_above
from experiments.report.timeline import (
    ACTIVITIES,
    CLIENT,
    DOWN,
    SERVER,
    UP,
    WAITING,
    ActivitySpan,
    bounds,
    representative,
    shares,
    spans_by_round,
)
from splitfl.run_folder.read import RunRecord

COLOURS = {CLIENT: PALETTE[0], UP: PALETTE[1], DOWN: PALETTE[5], SERVER: PALETTE[2], WAITING: IDLE}

MAX_SPANS = 3000
"""A longer round is shown from its start up to this many spans."""

HEIGHT = 0.66


def draw_round(axes: Axes, run: RunRecord, max_clients: int) -> None:
    """Draws the round of median length; virtual time since its start."""
    rounds = spans_by_round(run)
    if not rounds:
        return draw_empty(axes, "nothing was recorded")
    number = representative(rounds)
    start_s, finish_s = bounds(rounds[number])
    clients = sorted({span.client for span in rounds[number] if span.client is not None})[:max_clients]
    seen = [span for span in rounds[number] if span.activity == SERVER or span.client in clients]
    until_s = (seen[MAX_SPANS].start_s if len(seen) > MAX_SPANS else finish_s) - start_s
    spans = [_shifted(span, start_s, until_s) for span in seen[:MAX_SPANS]]
    lanes: dict[str, list[ActivitySpan]] = {
        f"client {client}": [span for span in spans if span.client == client] for client in clients
    }
    lanes["server"] = [span for span in spans if span.activity == SERVER]
    rest = f", of {finish_s - start_s:.1f} s" if len(seen) > MAX_SPANS else ""
    draw_lanes(axes, lanes, until_s)
    axes.set_xlabel(f"virtual time since the start of round {number + 1} (s{rest})")


def draw_lanes(
    axes: Axes, lanes: Mapping[str, Sequence[ActivitySpan]], until_s: float, server: str = SERVER
) -> None:
    """Draws spans from 0 to `until_s`, a lane for each name; the last is the server's, busy with `server`."""
    for height, lane in enumerate(lanes.values()):
        _draw_lane(axes, height, lane, until_s)
    _label(axes, list(lanes), list(lanes.values())[-1], until_s)
    for activity in ACTIVITIES:
        axes.bar(0, 0, color=COLOURS[activity], label=server if activity == SERVER else activity)
    legend_above(axes, columns=len(ACTIVITIES))


def _draw_lane(axes: Axes, height: int, lane: Sequence[ActivitySpan], until_s: float) -> None:
    """Draws in reverse order of ACTIVITIES, so that the first is on top where they overlap."""
    axes.broken_barh([(0, until_s)], (height - HEIGHT / 2, HEIGHT), facecolors=COLOURS[WAITING])
    by_activity: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for span in lane:
        by_activity[span.activity].append((span.start_s, span.finish_s - span.start_s))
    for activity in reversed(ACTIVITIES):
        if activity in by_activity:
            axes.broken_barh(
                by_activity[activity], (height - HEIGHT / 2, HEIGHT), facecolors=COLOURS[activity]
            )


def _label(axes: Axes, names: list[str], server: Sequence[ActivitySpan], until_s: float) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, until_s or 1.0)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    if until_s:
        busy = shares(server, 0.0, until_s)[SERVER] / until_s
        axes.text(
            1.0, len(names) - 1, f" busy\n {100 * busy:.0f} %", transform=axes.get_yaxis_transform(),
            va="center", color=MUTED, fontsize=10,
        )  # fmt: skip


def _shifted(span: ActivitySpan, origin_s: float, until_s: float) -> ActivitySpan:
    """The span relative to `origin_s`, truncated at `until_s`."""
    return span._replace(start_s=span.start_s - origin_s, finish_s=min(span.finish_s - origin_s, until_s))
