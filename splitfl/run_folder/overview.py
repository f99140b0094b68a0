"""A run's summary in a few rows, for a terminal, a notebook or a page."""

import math
from collections.abc import Mapping
from typing import Any

from splitfl.core.metrics import JUDGES, METRICS
from splitfl.core.quantities import bytes_text, flops_text, metric_text, percent_text, seconds_text
from splitfl.transport.registry import TRANSPORTS


def overview(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A name and a text for each thing that `summary.json` holds of the results and the costs."""
    work = (flops_text(summary[f"{side}_flops"]) for side in ("client", "server"))
    rows = [
        *_results(summary["final"]),
        *_leaks(summary.get("leaks") or {}),
        ("sent", f"{bytes_text(summary['bytes_up'])} up, {bytes_text(summary['bytes_down'])} down"),
        ("packets", f"{summary['packets']:,} ({summary['retransmissions']:,} retransmissions)"),
        ("airtime", f"{seconds_text(summary['airtime_s'])} over all clients ({_link(summary)})"),
        (
            "time",
            f"{seconds_text(summary['virtual_s'])} on the virtual clock, "
            f"{seconds_text(summary['wall_s'])} here",
        ),
        ("work", "{} on clients, {} on the server".format(*work)),
    ]
    if summary["client_peak_bytes"] is not None:
        peaks = (bytes_text(summary[f"{side}_peak_bytes"]) for side in ("client", "server"))
        peak = "{} a client, {} server (above the libraries' own)".format(*peaks)
        rows.append(("peak memory", peak))
    return rows + [("not tracked", failure) for failure in summary.get("tracking_failures", ())]


def _leaks(leaks: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The share that each attack recovered (or its AUC), beside that of a constant guess."""
    rows = []
    for attack, leak in leaks.items():
        guess = "" if leak["chance"] is None else f" (a constant guess: {percent_text(leak['chance'])})"
        rows.append((f"recovered by {attack}", percent_text(leak["value"]) + guess))
    return rows


def _link(summary: Mapping[str, Any]) -> str:
    spec = dict(TRANSPORTS).get(summary["transport"])
    return "emulated link" if spec is None or spec.describe_link is None else "waveform"


def _results(final: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(METRICS[name].label, metric_text(name, final[name])) for name in JUDGES if name in final]
    loss = final.get("train_loss")
    if loss is not None and not math.isnan(loss):
        rows.append(("last training loss", f"{loss:.3f}"))
    return rows
