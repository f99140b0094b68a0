"""The processes of a soak: forked from one that holds the libraries, killed for good, started anew."""

import multiprocessing
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import psutil

from experiments.soak import lives

_FORK: Final = multiprocessing.get_context("forkserver")


class Processes:
    """Server (None) and clients by number, one process each at a time; none is left when the context ends."""

    def __init__(self, logs: Path) -> None:
        """What each of them says goes to a file in this folder."""
        self.lives: Counter[int | None] = Counter()
        self._logs = logs
        self._running: dict[int | None, ForkServerProcess] = {}
        _FORK.set_forkserver_preload(lives.PRELOADED)
        forkserver.ensure_running()
        self._before = _family()

    def start(self, who: int | None, function: Callable[..., None], *arguments: Any) -> None:
        """Starts this one; its log comes after the arguments."""
        self.lives[who] += 1
        process = _FORK.Process(target=function, args=(*arguments, self.log(who)), daemon=True)
        process.start()
        self._running[who] = process

    def kill(self, who: int | None) -> None:
        """Ends it at once, whatever it is at."""
        process = self._running.pop(who)
        process.kill()
        process.join()

    def code(self, who: int | None) -> int | None:
        """How it ended by itself, None while it runs."""
        return self._running[who].exitcode

    def pid(self, who: int | None) -> int:
        """The number of its process."""
        pid = self._running[who].pid
        assert pid is not None
        return pid

    def running(self) -> dict[int | None, int | None]:
        """Those that were not killed, and how they ended, None while they run."""
        return {who: process.exitcode for who, process in self._running.items()}

    def log(self, who: int | None) -> Path:
        """Where it says what it does."""
        return self._logs / ("server.log" if who is None else f"client-{who}.log")

    def last_words(self, who: int | None) -> str:
        """The last line that it said."""
        path = self.log(who)
        said = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return said[-1] if said else "nothing"

    def tell_where(self) -> None:
        """Every process writes into its log where each of its threads is."""
        for who, code in self.running().items():
            if code is None:
                os.kill(self.pid(who), signal.SIGUSR1)

    def wait(self, timeout_s: float) -> None:
        """Gives all of them together so long to end."""
        handles = [psutil.Process(self.pid(who)) for who, code in self.running().items() if code is None]
        psutil.wait_procs(handles, timeout=timeout_s)

    def left(self) -> list[int]:
        """Processes that should be gone, those they started included."""
        return sorted(_family() - self._before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for who in list(self._running):
            self.kill(who)


def _family() -> set[int]:
    found: set[int] = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found
