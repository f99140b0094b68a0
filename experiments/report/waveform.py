"""Plots of a run over the waveform, from the file radio.json in its folder."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from experiments.live.radio_figures import RECORD
from experiments.report.drawing import PALETTE, canvas, house_style, legend_above, to_svg
from splitfl.run_folder.read import RunRecord, read_table

_SHOWN_LINKS = len(PALETTE)
_HEIGHT_PX = 280
_LEAST_SPAN_DB = 10.0


def over_time(run: RunRecord, width_px: float) -> str:
    """SNR and packet errors of each link against seconds of samples; empty without a waveform."""
    record = _record(run)
    if record is None or not record["rows"]:
        return ""
    links = sorted({(row["node"], row["at"]) for row in record["rows"]})[:_SHOWN_LINKS]
    with house_style():
        figure = canvas(width_px, _HEIGHT_PX)
        snr, errors = figure.subplots(1, 2, sharex=True)
        for colour, link in zip(PALETTE, links, strict=False):
            rows = [row for row in record["rows"] if (row["node"], row["at"]) == link]
            times = [row["time_s"] for row in rows]
            snr.plot(times, [row["snr_db"] for row in rows], color=colour, label=link_name(*link))
            errors.plot(times, [row["bad"] / row["packets"] for row in rows], color=colour)
        snr.set_ylabel("SNR in dB")
        errors.set_ylabel("packets with errors")
        errors.yaxis.set_major_formatter(PercentFormatter(1.0))
        errors.set_ylim(bottom=0.0)
        for axes in (snr, errors):
            axes.set_xlabel("seconds of samples")
        legend_above(snr, columns=4)
        return to_svg(figure, "waveform")


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
        if far["last"] is not None
    ]
    return found[:most]


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
