"""Runs every entrant with every seed in parallel processes, each in its own folder and only once."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from splitfl.comparison.cached_runs import finished, run_once
from splitfl.comparison.entrants import Entrant
from splitfl.config import NoSettings, RunConfig, TransportConfig
from splitfl.core.errors import SplitflError
from splitfl.runtime.quiet import quiet
from splitfl.setup.experiment_file import as_dict, from_dict


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


def run_all(todo: Sequence[SeedRun], jobs: int, on_done: Callable[[SeedRun, str | None], None]) -> None:
    """Executes all unfinished runs, `jobs` at a time; calls `on_done` with each and its error, if any.

    Interrupted runs are restarted. Each job is a process that ends with this one, even if that is
    killed; with 0 jobs all runs are executed in this process.
    """
    unfinished = []
    for run in todo:
        if run.summary() is not None:
            on_done(run, None)
        elif jobs:
            unfinished.append(run)
        else:
            on_done(run, _reason(run.config, run.folder))
    if not unfinished:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=end_with_parent) as pool:
        submitted = {pool.submit(_run, as_dict(run.config), str(run.folder)): run for run in unfinished}
        try:
            for done in as_completed(submitted):
                on_done(submitted[done], done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise


def end_with_parent() -> None:
    """Exits this process when its parent ends, even if that is killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _run(table: Mapping[str, Any], folder: str) -> str | None:
    """Runs `_reason` in a worker process."""
    quiet()
    return _reason(from_dict(table), Path(folder))


def _reason(config: RunConfig, folder: Path) -> str | None:
    """Runs the experiment; returns the error message if it failed."""
    try:
        run_once(config, folder)
    except SplitflError as error:
        return str(error)
    return None
