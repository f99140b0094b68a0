"""The runs of a comparison: every entrant with every seed, each in its own folder and only once."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from splitfl.comparison.cached_runs import finished, run_once
from splitfl.comparison.entrants import Entrant
from splitfl.config import NoSettings, RunConfig, TransportConfig
from splitfl.core.errors import SplitflError


@dataclass(frozen=True, kw_only=True)
class SeedRun:
    """The run of an entrant with one seed, and its folder."""

    label: str
    seed: int
    config: RunConfig
    folder: Path

    def summary(self) -> Mapping[str, Any] | None:
        """The summary of the finished run, else None; raises ConfigError if the folder has another run."""
        return finished(self.config, self.folder)


OnDone = Callable[[SeedRun, str | None], None]
"""Is called with each run that has ended, and its error, if any."""


class Backend(Protocol):
    """Executes runs, several at a time; `description` says where, for a progress bar."""

    @property
    def description(self) -> str: ...

    def execute(self, runs: Sequence[SeedRun], on_done: OnDone) -> None:
        """Executes all runs; a finished run is in its folder when `on_done` is called.

        A run that fails does not end the others. Raises ConfigError before the first run if none can start.
        """


def seed_runs(entrants: Iterable[Entrant], seeds: Sequence[int], out: Path) -> list[SeedRun]:
    """The runs of all entrants with all seeds, ordered by entrant. Each uses the transport inproc."""
    return [
        SeedRun(
            label=entrant.label,
            seed=seed,
            config=replace(
                entrant.config,
                train=replace(entrant.config.train, seed=seed),
                transport=TransportConfig(name="inproc", settings=(NoSettings(),)),
            ),
            folder=out / entrant.label / f"seed-{seed}",
        )
        for entrant in entrants
        for seed in seeds
    ]


def run_all(todo: Sequence[SeedRun], backend: Backend, on_done: OnDone) -> None:
    """Executes all unfinished runs; calls `on_done` with each run and its error, if any.

    Interrupted runs are restarted.
    """
    unfinished = []
    for run in todo:
        if run.summary() is None:
            unfinished.append(run)
        else:
            on_done(run, None)
    if unfinished:
        backend.execute(unfinished, on_done)


def error_of(config: RunConfig, folder: Path, command: str = "") -> str | None:
    """Runs the experiment in this process; returns the error message if it failed."""
    try:
        run_once(config, folder, command=command)
    except SplitflError as error:
        return str(error)
    return None
