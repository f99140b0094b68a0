"""The processes of a soak, started by a fork server that has imported the libraries."""

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

from experiments.soak import nodes

_FORK: Final = multiprocessing.get_context("forkserver")


class Processes:
    """Server (None) and clients by index, one process each at a time; the context kills all at exit."""

    def __init__(self, logs: Path) -> None:
        """Each process writes its output to a log in this folder."""
        self.lives: Counter[int | None] = Counter()
        self._logs = logs
        self._running: dict[int | None, ForkServerProcess] = {}
        _FORK.set_forkserver_preload(nodes.PRELOADED)
        forkserver.ensure_running()
        self._before = _descendants()

    def start(self, node: int | None, function: Callable[..., None], *arguments: Any) -> None:
        """Starts the process of this node; its log is passed as the last argument."""
        self.lives[node] += 1
        process = _FORK.Process(target=function, args=(*arguments, self.log(node)), daemon=True)
        process.start()
        self._running[node] = process

    def kill(self, node: int | None) -> None:
        """Kills the node's process and waits for its end."""
        process = self._running.pop(node)
        process.kill()
        process.join()

    def code(self, node: int | None) -> int | None:
        """The node's exit code, None while it runs."""
        return self._running[node].exitcode

    def pid(self, node: int | None) -> int:
        """The node's process id."""
        pid = self._running[node].pid
        assert pid is not None
        return pid

    def running(self) -> dict[int | None, int | None]:
        """Exit codes of nodes that were not killed, None while they run."""
        return {node: process.exitcode for node, process in self._running.items()}

    def log(self, node: int | None) -> Path:
        """The node's log file."""
        return self._logs / ("server.log" if node is None else f"client-{node}.log")

    def last_log_line(self, node: int | None) -> str:
        """The last line of the node's log."""
        path = self.log(node)
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        return lines[-1] if lines else "nothing"

    def dump_stacks(self) -> None:
        """Makes every process dump the stacks of its threads to its log."""
        for node, code in self.running().items():
            if code is None:
                os.kill(self.pid(node), signal.SIGUSR1)

    def wait(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for all processes to end."""
        handles = [psutil.Process(self.pid(node)) for node, code in self.running().items() if code is None]
        psutil.wait_procs(handles, timeout=timeout_s)

    def left(self) -> list[int]:
        """Ids of processes that still run, children included."""
        return sorted(_descendants() - self._before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in list(self._running):
            self.kill(node)


def _descendants() -> set[int]:
    found: set[int] = set()
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child.pid)
    return found
