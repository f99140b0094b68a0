"""A run on a terminal: a bar of steps, and a line with the metrics of each round."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import TaskID
from rich.text import Text

from splitfl.config import RunConfig
from splitfl.runtime.screen import round_figures
from splitfl.runtime.terminal import counting_bar
from splitfl.transport.base.addresses import address_over
from splitfl.transport.registry import own_transport


class TerminalScreen:
    """Shows a run's progress; use it as a context.

    `total` is the number of training steps, if known; `invites` prints the command to join with.
    """

    def __init__(self, console: Console, config: RunConfig, total: int | None, *, invites: bool) -> None:
        self._console = console
        self._config = config
        self._invites = invites
        self._figures = ""
        self._progress = counting_bar(console, "{task.description}", unit="steps")
        self._bar: TaskID = self._progress.add_task("loading", total=total)

    def waiting(self, address: str, missing: list[int]) -> None:
        """Shows which clients are missing."""
        if self._invites:
            self._invites = False
            self._invite(address, missing)
        names = ", ".join(map(str, missing))
        status = f"server at {address}, waiting for client {names}" if missing else "training"
        self._progress.update(self._bar, description=status)

    def _invite(self, address: str, missing: list[int]) -> None:
        clients: dict[str, list[int]] = {}
        for client in missing:
            clients.setdefault(own_transport(self._config.transport, client).name, []).append(client)
        for name, some in clients.items():
            command = f"splitfl join {address_over(name, address)} --transport {name} --client N"
            how_to = ("  clients join with: ", (command, "bold"), f", N one of {some}")
            self._console.print(Text.assemble(*how_to), soft_wrap=True)

    def note(self, what: str) -> None:
        """Prints a note."""
        self._console.print(f"  {what}", style="yellow", soft_wrap=True)

    def live(self, figures: str) -> None:
        """Shows them from the next step on."""
        self._figures = f"  {figures}"

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """Advances the bar."""
        status = f"round {round_index + 1}/{self._config.federation.rounds}{self._figures}"
        self._progress.update(self._bar, advance=steps, description=status)

    def measured(self, row: Mapping[str, Any]) -> None:
        """Prints the metrics of a round."""
        figures = [f"{name} {figure}" for name, figure in round_figures(row).items()]
        parts = [f"round {row['round'] + 1}/{self._config.federation.rounds}", *figures]
        self._console.print("  " + "   ".join(parts), soft_wrap=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()
