"""The picture of `splitfl radio probe`: spectrum, waterfall, constellation and SNR."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from channel.core.errors import BadParameter
from channel.waveform.received import Received
from experiments.report.drawing import PALETTE, draw_empty, house_style
from testbed.radio.probe.probe import ProbeReport

SUFFIXES = (".png", ".svg", ".pdf")
_KHZ = 1e-3


def require_suffix(path: Path) -> None:
    """Raises BadParameter unless a picture of this name can be written."""
    if path.suffix.lower() not in SUFFIXES:
        raise BadParameter(f"--plot must end in {', '.join(SUFFIXES)}, got {path.name!r}")


def write(path: Path, name: str, report: ProbeReport) -> None:
    """Writes the picture in the format of the suffix."""
    with house_style():
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
        figure = Figure(figsize=(11.0, 8.0), layout=layout, facecolor="white")
        FigureCanvasAgg(figure)
        (spectrum, waterfall), (constellation, snr) = figure.subplots(2, 2)
        _spectrum(spectrum, report)
        _waterfall(figure, waterfall, report)
        _constellation(constellation, report.packets)
        _snr(snr, report)
        figure.suptitle(name)
        figure.savefig(path, dpi=110)


def _spectrum(axes: Axes, report: ProbeReport) -> None:
    power_TF, frequency_F = report.waterfall.power_db_TF, report.waterfall.frequency_F * _KHZ
    axes.plot(frequency_F, power_TF.max(axis=0), color=PALETTE[5], linewidth=1.0, label="highest")
    axes.plot(frequency_F, np.median(power_TF, axis=0), color=PALETTE[0], linewidth=1.2, label="median")
    axes.set_title("spectrum")
    axes.set_xlabel("kHz from the carrier")
    axes.set_ylabel("dBFS per bin")
    axes.legend(loc="lower center", ncols=2)


def _waterfall(figure: Figure, axes: Axes, report: ProbeReport) -> None:
    power_TF, frequency_F = report.waterfall.power_db_TF, report.waterfall.frequency_F * _KHZ
    low, high = np.quantile(power_TF, [0.02, 0.999])
    shown = axes.imshow(
        power_TF,
        aspect="auto",
        origin="lower",
        extent=(frequency_F[0], frequency_F[-1], 0.0, report.seconds),
        cmap="viridis",
        vmin=low,
        vmax=max(high, low + 1.0),
        interpolation="nearest",
    )
    axes.grid(False)
    axes.set_title("waterfall")
    axes.set_xlabel("kHz from the carrier")
    axes.set_ylabel("s of samples")
    figure.colorbar(shown, ax=axes, label="dBFS per bin")


def _constellation(axes: Axes, packets: list[Received]) -> None:
    whole = [packet for packet in packets if packet.payload]
    if not whole:
        draw_empty(axes, "no whole packet")
        return
    points = whole[-1].points
    axes.plot(points.real, points.imag, ".", markersize=3, color=PALETTE[0])
    axes.set_aspect("equal")
    axes.set_title(f"last whole packet, MCS {whole[-1].mcs}")
    axes.set_xlabel("in phase")
    axes.set_ylabel("quadrature")


def _snr(axes: Axes, report: ProbeReport) -> None:
    if not report.packets:
        draw_empty(axes, "no packet")
        return
    time_s = np.asarray([packet.position for packet in report.packets]) / report.tuning.rate_hz
    is_bad = np.asarray([packet.payload is None and packet.units_UN is None for packet in report.packets])
    axes.plot(time_s[~is_bad], report.snr_db[~is_bad], ".", color=PALETTE[2], label="whole")
    axes.plot(time_s[is_bad], report.snr_db[is_bad], "x", color=PALETTE[3], label="with errors")
    middle_db = float(np.median(report.snr_db))
    low_db, high_db = report.snr_db.min() - 1.0, report.snr_db.max() + 1.0
    axes.set_ylim(min(low_db, middle_db - 5.0), max(high_db, middle_db + 5.0))
    axes.set_title("SNR of packets")
    axes.set_xlabel("s of samples")
    axes.set_ylabel("dB")
    axes.legend(loc="lower right", ncols=2)
