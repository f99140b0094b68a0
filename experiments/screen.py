"""What a person sees of a run: a bar that moves, a line a round, a table at the end."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import TaskID
from rich.table import Table
from rich.text import Text

from experiments.live.figures import in_short, kept_up
from experiments.terminal import counting_bar, working
from splitfl.config import RunConfig
from splitfl.core.metrics import JUDGES, METRICS
from splitfl.core.quantities import bytes_text, flops_text, metric_text, seconds_text
from splitfl.setup.experiment import Experiment


class Screen:
    """Shows a run as it goes; use it as a context.

    `total` is the number of training steps, if known; `invites` says how clients join.
    """

    def __init__(self, console: Console, config: RunConfig, total: int | None, *, invites: bool) -> None:
        self._console = console
        self._config = config
        self._invites = invites
        self._progress = counting_bar(console, "{task.description}", unit="steps")
        self._bar: TaskID = self._progress.add_task("loading", total=total)

    def waiting(self, address: str, missing: list[int]) -> None:
        """Says who has not come yet."""
        if self._invites:
            self._invites = False
            name = self._config.transport.name
            command = (f"splitfl join {address} --transport {name} --client N", "bold")
            how_to = Text.assemble("  on the clients' machines: ", command, f", N one of {missing}")
            self._console.print(how_to, soft_wrap=True)
        names = ", ".join(map(str, missing))
        said = f"server at {address}, waiting for client {names}" if missing else "training"
        self._progress.update(self._bar, description=said)

    def said(self, what: str) -> None:
        """Says what has happened."""
        self._console.print(f"  {what}", style="yellow", soft_wrap=True)

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """Moves the bar."""
        said = f"round {round_index + 1}/{self._config.federation.rounds}"
        self._progress.update(self._bar, advance=steps, description=said)

    def measured(self, row: Mapping[str, Any]) -> None:
        """Prints what a round has come to."""
        parts = [f"round {row['round'] + 1}/{self._config.federation.rounds}"]
        parts += [f"train loss {row['train_loss']:.3f}"] if row["train_loss"] is not None else []
        parts += [f"held-out loss {row['eval_loss']:.3f}"] if "eval_loss" in row else []
        parts += [
            f"{METRICS[name].label.removeprefix('held-out ')} {metric_text(name, row[name])}"
            for name in JUDGES
            if name in row
        ]
        parts += [f"{seconds_text(row['finish_s'])} on the virtual clock"]
        self._console.print("  " + "   ".join(parts), soft_wrap=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


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
    final = summary["final"]
    table = Table(show_header=False, box=None, pad_edge=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name in JUDGES:
        if name in final:
            table.add_row(METRICS[name].label, metric_text(name, final[name]))
    if final["train_loss"] is not None:
        table.add_row("last training loss", f"{final['train_loss']:.3f}")
    table.add_row("sent", f"{bytes_text(summary['bytes_up'])} up, {bytes_text(summary['bytes_down'])} down")
    packets = f"{summary['packets']:,} ({summary['retransmissions']:,} more sent again)"
    table.add_row("packets", packets)
    table.add_row("airtime", f"{seconds_text(summary['airtime_s'])} over all clients (emulated link)")
    clocks = (
        f"{seconds_text(summary['virtual_s'])} on the virtual clock, {seconds_text(summary['wall_s'])} here"
    )
    table.add_row("time", clocks)
    if "live" in summary:
        live = summary["live"]
        table.add_row("live, uplink", in_short(live, "up"))
        table.add_row("live, downlink", in_short(live, "down"))
        table.add_row("", f"real packets, TCP with {live['congestion']}. {kept_up(live)}")
    client_work, server_work = flops_text(summary["client_flops"]), flops_text(summary["server_flops"])
    table.add_row("work", f"{client_work} on clients, {server_work} on the server")
    if summary["client_peak_bytes"] is not None:
        client_peak, server_peak = (
            bytes_text(summary[f"{side}_peak_bytes"]) for side in ("client", "server")
        )
        table.add_row(
            "peak memory", f"{client_peak} a client, {server_peak} server (above the libraries' own)"
        )
    table.add_row("folder", str(folder))
    table.add_row("report", str(folder / "report.html"))
    return table
