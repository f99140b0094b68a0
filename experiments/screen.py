"""What a person reads before and after a run: what was read of the data, and a table of the results."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from experiments.live.figures import in_short, kept_up
from splitfl.run_folder.overview import overview
from splitfl.runtime.terminal import working
from splitfl.setup.experiment import Experiment


def print_data(console: Console, site: Experiment, *, tokens: bool = True, before: str = "  ") -> None:
    """What was understood of the data, for a person to check; counting `tokens` takes a moment.

    `before` stands before each line.
    """
    with working(console, "counting tokens"):
        found = site.description(tokens=tokens)
    for line in found.lines:
        console.print(f"{before}{line}", soft_wrap=True)
    for line in found.warnings:
        console.print(f"{before}{line}", style="yellow", soft_wrap=True)


def summary_table(summary: Mapping[str, Any], folder: Path) -> Table:
    """A finished run in a few lines."""
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
    table.add_row("folder", str(folder))
    table.add_row("report", str(folder / "report.html"))
    return table
