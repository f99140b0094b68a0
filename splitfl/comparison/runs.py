"""Runs every entrant with every seed: side by side in processes, each in a folder of its own, none twice."""

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
class Race:
    """One entrant with one seed, and where its run is kept."""

    label: str
    seed: int
    config: RunConfig
    folder: Path

    def summary(self) -> Mapping[str, Any] | None:
        """What its run came to, None until it ended well; ConfigError where its folder holds another's."""
        return finished(self.config, self.folder)


def races(entrants: Iterable[Entrant], seeds: Sequence[int], out: Path) -> list[Race]:
    """Every entrant with every seed; all seeds of the first come first. Each runs in one process."""
    return [
        Race(
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


def run_all(todo: Sequence[Race], jobs: int, on_done: Callable[[Race, str | None], None]) -> None:
    """Runs what has not been run, `jobs` at a time; `on_done` is told of each, and why one failed.

    A race that was cut short starts anew. Each job is a process, which ends with this one in whatever way
    that ends; with 0 jobs the races run one after the other in this process.
    """
    left = []
    for race in todo:
        if race.summary() is not None:
            on_done(race, None)
        elif jobs:
            left.append(race)
        else:
            on_done(race, _reason(race.config, race.folder))
    if not left:
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=end_with_parent) as pool:
        waiting = {pool.submit(_run, as_dict(race.config), str(race.folder)): race for race in left}
        try:
            for done in as_completed(waiting):
                on_done(waiting[done], done.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in list((pool._processes or {}).values()):
                process.terminate()
            raise


def end_with_parent() -> None:
    """This process ends when the one that started it has ended, though it was killed without a word."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="parent", daemon=True).start()


def _run(table: Mapping[str, Any], folder: str) -> str | None:
    """See `_reason`; in a process of its own."""
    quiet()
    return _reason(from_dict(table), Path(folder))


def _reason(config: RunConfig, folder: Path) -> str | None:
    """Runs it; the reason where that failed."""
    try:
        run_once(config, folder)
    except SplitflError as error:
        return str(error)
    return None
