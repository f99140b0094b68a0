"""The product as `splitfl run` runs it: protocol, frames, ledger, events, run folder and progress bar."""

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from experiments.bench.interleaved import Rest
from experiments.bench.setting import Setting
from experiments.local_clients import run_here
from splitfl.config import RunConfig
from splitfl.runtime.terminal import plain_console
from splitfl.runtime.terminal_screen import TerminalScreen
from splitfl.setup.experiment import Experiment


@dataclass(frozen=True, kw_only=True)
class Product:
    """A contestant. A block is a round, including its aggregation and checkpoint."""

    transport: str = "inproc"
    clients: int = 1
    in_flight: int = 1
    server_batch: int = 1
    server_threads: int = 1

    def __call__(self, setting: Setting, blocks: int, rest: Rest) -> None:
        config = setting.config(rounds=blocks, **asdict(self))

        def new_folder() -> Path:
            return Path(tempfile.mkdtemp(dir=setting.folder))

        run_here(Experiment.of(config), new_folder, _PacedScreen(config, rest))


class _PacedScreen:
    """The product's screen, which calls `rest` at the end of every round, when no message is in flight."""

    def __init__(self, config: RunConfig, rest: Rest) -> None:
        federation = config.federation
        total = federation.rounds * federation.clients * federation.local_steps
        console = plain_console(terminal=True)  # the bar is drawn even without a terminal
        self._screen = TerminalScreen(console, config, total, invites=False)
        self._rest = rest
        self._live = ExitStack()
        self._live.enter_context(self._screen)

    def waiting(self, address: str, missing: list[int]) -> None:
        """See Screen."""
        self._screen.waiting(address, missing)

    def note(self, what: str) -> None:
        """See Screen."""

    def live(self, figures: str) -> None:
        """See Screen."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Screen."""
        self._screen.stepped(round_index, client, steps)

    def measured(self, row: Mapping[str, Any]) -> None:
        """Shows the round, then rests; the bar is hidden while others are timed."""
        self._screen.measured(row)
        self._live.close()
        self._rest(row["train_loss"])
        self._live.enter_context(self._screen)
