"""The plots of a run as `<svg>` strings for a page, and one wide PNG."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes

from experiments.report.classes import MAX_CLASSES, draw_confusion
from experiments.report.classes import confusion as confusion_of_run
from experiments.report.drawing import canvas, house_style, to_svg
from experiments.report.gantt import draw_round
from experiments.report.leakage import draw_leakage
from experiments.report.node_timeline import draw_nodes, read_messages, shown_round
from experiments.report.nodes import client_nodes, server_node
from experiments.report.panels import (
    MAX_CLIENTS,
    draw_airtime,
    draw_bytes,
    draw_comparison,
    draw_learning,
    draw_legend,
    draw_loss,
    draw_metric,
    draw_sent,
    draw_time_shares,
)
from experiments.report.plans import draw_plans
from experiments.report.waveform import channel, last_packet, over_time, spectrum
from experiments.report.writing import write_whole
from splitfl.run_folder.read import RunRecord

THIRD_PX, HALF_PX, FULL_PX = 350, 526, 1072
"""The widths of a page's columns."""

LEGEND_COLUMNS = 4


def loss(run: RunRecord) -> str:
    """Training loss (each client's in grey) and held-out loss against rounds."""
    return _plot("loss", THIRD_PX, 280, lambda axes: draw_loss(axes, run))


def metric(run: RunRecord, against: str) -> str:
    """Held-out accuracy or perplexity against `rounds` or `bytes`."""
    return _plot(f"metric-{against}", THIRD_PX, 280, lambda axes: draw_metric(axes, run, against))


def leakage(run: RunRecord) -> str:
    """What attacks recovered, against rounds; nothing for a run without probes."""
    if not run.events.leaks:
        return ""
    return _plot("leakage", FULL_PX, 260, lambda axes: draw_leakage(axes, run))


def traffic(run: RunRecord) -> str:
    """Bytes per client and message kind, uplink and downlink side by side on one scale."""
    height_px = 120 + 28 * min(len(run.clients), MAX_CLIENTS + 1)
    with house_style():
        figure = canvas(FULL_PX, height_px)
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axes, direction in zip(panels, ("up", "down"), strict=True):
            draw_bytes(axes, run, direction)
        return to_svg(figure, "traffic")


def airtime(run: RunRecord) -> str:
    """Airtime of every round in seconds, stacked by client."""
    return _plot("airtime", HALF_PX, 300, lambda axes: draw_airtime(axes, run))


def time_shares(run: RunRecord) -> str:
    """Each round's time by activity, averaged over clients: computing, transmission, waiting."""
    return _plot("shares", HALF_PX, 300, lambda axes: draw_time_shares(axes, run))


def timeline(run: RunRecord) -> str:
    """Every client's lane and the server's in the round of median length, on the virtual clock."""
    height_px = 110 + 32 * (min(len(run.clients), MAX_CLIENTS) + 1)
    return _plot("timeline", FULL_PX, height_px, lambda axes: draw_round(axes, run, MAX_CLIENTS))


def node_timeline(folder: Path) -> str:
    """One round of a testbed's nodes on the clock of the machine that collected; empty without messages."""
    messages = shown_round(read_messages(folder))
    if not messages:
        return ""
    nodes, server = client_nodes(folder), server_node(folder)
    shown = [one for one in messages if one.client < MAX_CLIENTS]
    height_px = 110 + 44 * (len({one.client for one in shown}) + 1)
    return _plot("nodes", FULL_PX, height_px, lambda axes: draw_nodes(axes, shown, nodes, server))


def plans(run: RunRecord) -> str:
    """The controller's plan for each client by round; empty without a controller."""
    if not run.events.plans:
        return ""
    height_px = 120 + 32 * min(len(run.clients), MAX_CLIENTS)
    return _plot("plans", FULL_PX, height_px, lambda axes: draw_plans(axes, run, MAX_CLIENTS))


def confusion(run: RunRecord) -> str:
    """Held-out samples by class and by prediction; nothing for a run without, or with too many classes."""
    counts = confusion_of_run(run)
    if counts is None or len(counts) > MAX_CLASSES:
        return ""
    side_px = min(160 + 34 * len(counts), HALF_PX)
    return _plot("confusion", HALF_PX, side_px, lambda axes: draw_confusion(axes, run, counts))


def waveform(run: RunRecord) -> str:
    """SNR, packet errors, goodput and speed of a run over the waveform; empty without one."""
    return over_time(run, FULL_PX)


def packets(run: RunRecord) -> str:
    """Constellations and estimated channels of a run over the waveform; empty without one."""
    return last_packet(run, FULL_PX)


def heard_spectrum(run: RunRecord) -> str:
    """What the nodes of a run over the waveform heard, over frequency and time; empty without one."""
    return spectrum(run, FULL_PX)


def estimated_channel(run: RunRecord) -> str:
    """The channels of a run over the waveform, over subcarriers and time; empty without one."""
    return channel(run, FULL_PX)


def comparison(runs: Sequence[RunRecord], metric: str, against: str) -> str:
    """A metric of several runs against `rounds`, `bytes` or `airtime`, one line per run."""
    return _plot(
        f"{metric}-{against}", THIRD_PX, 300, lambda axes: draw_comparison(axes, runs, metric, against)
    )


def legend(names: Sequence[str]) -> str:
    """The legend for all plots of a comparison."""
    height_px = 10 + 20 * -(-len(names) // LEGEND_COLUMNS)
    return _plot("legend", FULL_PX, height_px, lambda axes: draw_legend(axes, names, LEGEND_COLUMNS))


def save_png(run: RunRecord, path: Path) -> None:
    """Writes one wide PNG of a run to `path`: learning curves, bytes, and the Gantt chart of a round."""
    with house_style():
        figure = canvas(1500, 380)
        figure.set_facecolor("white")
        learning, sent, lanes = figure.subplots(1, 3, width_ratios=(0.9, 0.8, 1.6))
        draw_learning(learning, run)
        draw_sent(sent, run)
        draw_round(lanes, run, MAX_CLIENTS)
        for axes, title in ((learning, "Learning"), (sent, "Bytes"), (lanes, "One round, second by second")):
            axes.set_title(title, pad=44)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=144, metadata={"Software": None})
    write_whole(path, buffer.getvalue())


def _plot(name: str, width_px: float, height_px: float, draw: Callable[[Axes], None]) -> str:
    with house_style():
        figure = canvas(width_px, height_px)
        draw(figure.subplots())
        return to_svg(figure, name)
