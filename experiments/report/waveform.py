"""Plots of a run over the waveform, from the file radio.json in its folder."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from experiments.live.radio_figures import RECORD
from experiments.report.drawing import INK, MUTED, PALETTE, canvas, house_style, legend_above, to_svg
from splitfl.run_folder.read import RunRecord, read_table

_SHOWN_LINKS = len(PALETTE)
_SHOWN_WATERFALLS = 4
_HEIGHT_PX = 280
_LEAST_SPAN_DB = 10.0


def over_time(run: RunRecord, width_px: float) -> str:
    """SNR, packet errors and goodput of each link against seconds of samples; empty without a waveform.

    Where samples pass in real time, also their speed.
    """
    record = _record(run)
    if record is None or not record["rows"]:
        return ""
    links = sorted({(row["node"], row["at"]) for row in record["rows"]})[:_SHOWN_LINKS]
    with house_style():
        figure = canvas(width_px, 2 * _HEIGHT_PX)
        (snr, errors), (goodput, speed) = figure.subplots(2, 2, sharex=True)
        for colour, link in zip(PALETTE, links, strict=False):
            rows = [row for row in record["rows"] if (row["node"], row["at"]) == link]
            times = [row["time_s"] for row in rows]
            style = {"color": colour, "marker": "." if len(rows) == 1 else ""}  # a line needs two points
            snr.plot(times, [row["snr_db"] for row in rows], **style, label=link_name(*link))
            errors.plot(times, [row["bad"] / row["packets"] for row in rows], **style)
            goodput.plot(times, [1e-3 * row["goodput_bps"] for row in rows], **style)
        if "wall_s" in record["rows"][0]:
            _speed(speed, [row for row in record["rows"] if row["at"] == 0])
        else:
            speed.remove()
            errors.xaxis.set_tick_params(labelbottom=True)
        snr.set_ylabel("SNR in dB")
        errors.set_ylabel("packets with errors")
        errors.yaxis.set_major_formatter(PercentFormatter(1.0))
        goodput.set_ylabel("kbit/s delivered")
        for axes in (errors, goodput):
            axes.set_ylim(bottom=0.0)
        for axes in (goodput, speed if speed in figure.axes else errors):
            axes.set_xlabel("seconds of samples")
        legend_above(snr, columns=4)
        return to_svg(figure, "waveform")


def spectrum(run: RunRecord, width_px: float) -> str:
    """The spectrum that each of up to 4 nodes heard over time; empty without any."""
    record = _record(run)
    if record is None:
        return ""
    half_khz = 0.5e-3 * record["air"]["rate_hz"]
    panels = [
        (f"heard by {'the server' if node == 0 else f'client {node - 1}'}", counted["spectrum"])
        for node, counted in enumerate(record["nodes"])
        if "spectrum" in counted
    ]
    return _waterfalls(panels, "spectrum", "kHz from the carrier", (-half_khz, half_khz), width_px)


def channel(run: RunRecord, width_px: float) -> str:
    """The estimated channel of up to 4 links over subcarriers and time; empty without any."""
    record = _record(run)
    if record is None:
        return ""
    panels = [
        (link_name(int(source), target), far["channel"])
        for target, node in enumerate(record["nodes"])
        for source, far in node["nodes"].items()
        if "channel" in far
    ]
    columns = next((len(row) for _, one in panels for row in one["power_db"] if row is not None), 0)
    return _waterfalls(panels, "channel", "subcarrier", (-columns / 2, columns / 2), width_px)


def last_packet(run: RunRecord, width_px: float) -> str:
    """Constellation and estimated channel of the last packet on each of up to 4 links; empty without any."""
    record = _record(run)
    found = _last_packets(record) if record is not None else []
    if not found:
        return ""
    with house_style():
        figure = canvas(width_px, 2 * _HEIGHT_PX)
        panels = figure.subplots(2, len(found), squeeze=False)
        for column, (name, last) in enumerate(found):
            _constellation(panels[0][column], name, last)
            _channel(panels[1][column], last["response_db"])
        return to_svg(figure, "packet")


def lacking(run: RunRecord) -> list[str]:
    """A sentence where the record is of a version that did not keep everything that is drawn."""
    record = _record(run)
    if record is None or all("spectrum" in node for node in record["nodes"]):
        return []
    return [f"{RECORD} was written by an earlier version, which kept no spectrum and no channel over time."]


def link_name(source: int, target: int) -> str:
    """`client 0, up` for the link from node 1 to node 0."""
    return f"client {source - 1}, up" if target == 0 else f"client {target - 1}, down"


def _record(run: RunRecord) -> Mapping[str, Any] | None:
    path = run.folder / RECORD
    return read_table(path) if run.summary.radio is not None and path.exists() else None


def _last_packets(record: Mapping[str, Any], most: int = 4) -> list[tuple[str, Mapping[str, Any]]]:
    found = [
        (link_name(int(source), target), far["last"])
        for target, node in enumerate(record["nodes"])
        for source, far in node["nodes"].items()
        if far["last"] is not None and far["last"]["points"]
    ]
    return found[:most]


def _waterfalls(
    panels: Sequence[tuple[str, Mapping[str, Any]]],
    name: str,
    label: str,
    span: tuple[float, float],
    width_px: float,
) -> str:
    """Powers over `span` (to the right) and time (downwards), all panels in the same colours."""
    shown = [(title, one) for title, one in panels if any(one["power_db"])][:_SHOWN_WATERFALLS]
    if not shown:
        return ""
    with house_style():
        figure = canvas(width_px, _HEIGHT_PX)
        row_of_axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        values = [_array(one["power_db"]) for _, one in shown]
        low, high = np.nanpercentile(np.concatenate(values), [1.0, 99.9])
        for axes, (title, one), power_db in zip(row_of_axes, shown, values, strict=True):
            image = axes.imshow(
                power_db,
                extent=(*span, one["row_s"] * len(power_db), 0.0),
                aspect="auto",
                interpolation="nearest",
                cmap="viridis",
                vmin=low,
                vmax=max(high, low + _LEAST_SPAN_DB),
            )
            axes.set_title(title, pad=8)
            axes.set_xlabel(label)
            axes.grid(visible=False)
        longest_s = max(one["row_s"] * len(one["power_db"]) for _, one in shown)
        row_of_axes[0].set_ylim(longest_s, 0.0)  # of all: a node that was silent has fewer samples
        row_of_axes[0].set_ylabel("seconds of samples")
        figure.colorbar(image, ax=list(row_of_axes), label="dB", shrink=0.9)
        return to_svg(figure, name)


def _array(power_db: Sequence[Sequence[int] | None]) -> NDArray[np.float64]:
    """With NaN where nothing was heard."""
    columns = next(len(row) for row in power_db if row is not None)
    return np.asarray([[np.nan] * columns if row is None else row for row in power_db], dtype=np.float64)


def _speed(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    """Seconds of samples per wall second, between the rows of one bridge."""
    steps = [(one, two) for one, two in pairwise(rows) if two["time_s"] > one["time_s"]]
    times = [two["time_s"] for _, two in steps]
    speeds = [(two["time_s"] - one["time_s"]) / (two["wall_s"] - one["wall_s"]) for one, two in steps]
    axes.plot(times, speeds, color=INK, marker="." if len(times) == 1 else "")
    axes.axhline(1.0, color=MUTED, linewidth=0.8)
    axes.set_ylabel("samples' seconds per second")
    axes.set_ylim(bottom=0.0)


def _constellation(axes: Axes, name: str, last: Mapping[str, Any]) -> None:
    in_phase, quadrature = zip(*last["points"], strict=True)
    axes.plot(in_phase, quadrature, ".", markersize=2, color=PALETTE[0])
    axes.set_title(f"{name}: {last['snr_db']:.1f} dB", pad=8)
    axes.set_aspect("equal")
    axes.set_xlabel("in phase")
    axes.set_ylabel("quadrature")


def _channel(axes: Axes, response_db: Sequence[float]) -> None:
    half = len(response_db) // 2
    subcarriers = [*range(-half, 0), *range(1, half + 1)]
    axes.plot(subcarriers, response_db, color=PALETTE[2])
    middle_db = 0.5 * (max(response_db) + min(response_db))
    span_db = max(max(response_db) - min(response_db), _LEAST_SPAN_DB)  # a flat channel looks flat
    axes.set_ylim(middle_db - 0.6 * span_db, middle_db + 0.6 * span_db)
    axes.set_xlabel("subcarrier")
    axes.set_ylabel("gain in dB")
