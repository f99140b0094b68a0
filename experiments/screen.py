"""Terminal output before and after a run: a description of the data, and a table of results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.live.figures import in_short, kept_up
from experiments.live.radio_figures import in_real_time, in_words
from splitfl.run_folder.overview import overview
from splitfl.runtime.terminal import spinner
from splitfl.setup.experiment import Experiment


def print_data(console: Console, experiment: Experiment, *, tokens: bool = True, before: str = "  ") -> None:
    """Prints a description of the data and its warnings; counting `tokens` takes a moment.

    `before` prefixes each line.
    """
    with spinner(console, "counting tokens"):
        found = experiment.description(tokens=tokens)
    for line in found.lines:
        console.print(f"{before}{line}", soft_wrap=True)
    for line in found.warnings:
        console.print(f"{before}{line}", style="yellow", soft_wrap=True)


def summary_table(summary: Mapping[str, Any], folder: Path) -> Table:
    """The key figures of a finished run, as a table for the terminal."""
    table = Table(show_header=False, box=None, pad_edge=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in overview(summary):
        table.add_row(name, text)
    if "live" in summary:
        live = summary["live"]
        table.add_row("live, uplink", in_short(live, "up"))
        table.add_row("live, downlink", in_short(live, "down"))
        table.add_row("", f"real packets, TCP with {live['congestion']}. {kept_up(live)}")
    if "radio" in summary:
        radio = summary["radio"]
        table.add_row("radio, uplink", in_words(radio, "up"))
        table.add_row("radio, downlink", in_words(radio, "down"))
        table.add_row(
            "", f"over the waveform of MCS {radio['mcs']} in {radio['scenario']}. {in_real_time(radio)}"
        )
    table.add_row("folder", str(folder))
    table.add_row("report", str(folder / "report.html"))
    return table
