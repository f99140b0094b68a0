"""Runs in parallel processes of this machine, or one after another in this process."""

import multiprocessing
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitfl.comparison.runs import OnDone, SeedRun, error_of
from splitfl.runtime.quiet import quiet
from splitfl.setup.experiment_file import as_dict, from_dict


@dataclass(frozen=True)
class ProcessPool:
    """`jobs` processes at a time; with 0 jobs all runs are executed in this process.

    The processes end with this one, even if that is killed.
    """

    jobs: int

    @property
    def description(self) -> str:
        return f"{self.jobs} at a time"

    def execute(self, runs: Sequence[SeedRun], on_done: OnDone) -> None:
        """See `Backend.execute`."""
        if not self.jobs:
            for run in runs:
                on_done(run, error_of(run.config, run.folder))
            return
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self.jobs, mp_context=spawn, initializer=end_with_parent) as pool:
            submitted = {pool.submit(_run, as_dict(run.config), str(run.folder)): run for run in runs}
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
    """Runs `error_of` in a worker process."""
    quiet()
    return error_of(from_dict(table), Path(folder))
