"""A function in a fresh process that sends values and waits after each one."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from splitfl.core.errors import SplitflError

Hand = Callable[[Any], None]
"""Sends a value to the parent; returns when the parent calls `go`."""

_SPAWN = multiprocessing.get_context("spawn")
_GRACE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class _Failed:
    reason: str


class BenchError(SplitflError):
    """A benchmark cannot be run, or would compare what must not be compared."""


class NotHere(BenchError):
    """A benchmark needs an optional dependency or a privilege that is missing; the message names it."""


class Fresh:
    """Runs `function(hand, *arguments)` in a spawned process; a context manager that kills it at exit."""

    def __init__(self, log: Path, function: Callable[..., None], *arguments: Any) -> None:
        """Starts the process; its output and its children's go to `log`."""
        self._log = log
        self._ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(log, theirs, function, arguments))
        self._process.start()
        theirs.close()

    def take(self, timeout_s: float = 300.0) -> Any:
        """The next value sent; raises BenchError after `timeout_s` or if the process fails."""
        if not self._ours.poll(timeout_s):
            raise BenchError(f"{self._log.stem} sent nothing for {timeout_s:g} s")
        try:
            value = self._ours.recv()
        except EOFError:
            raise BenchError(f"{self._log.stem} exited without an error message") from None
        if isinstance(value, _Failed):
            raise BenchError(f"{self._log.stem} failed: {value.reason}")
        return value

    def go(self) -> None:
        """Lets the function continue after its last value."""
        with suppress(BrokenPipeError):
            self._ours.send(None)

    def signal(self, sent: signal.Signals) -> None:
        """Sends the process this signal, if it is alive."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, sent)

    def kill(self) -> None:
        """Kills the process and waits for its end."""
        self.signal(signal.SIGKILL)
        self._process.join()

    def end(self) -> None:
        """Waits for the process to finish, then kills it and its children."""
        self._process.join(_GRACE_S)
        if self._process.pid is not None and self._process.is_alive():
            parent = psutil.Process(self._process.pid)
            for process in [*parent.children(recursive=True), parent]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()  # a function that waits in `hand` gets EOFError
        self.end()


def _work(
    log: Path, connection: "Connection[Any, Any]", function: Callable[..., None], arguments: tuple[Any, ...]
) -> None:
    with log.open("wb") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())

    def hand(value: Any) -> None:
        connection.send(value)
        connection.recv()

    try:
        function(hand, *arguments)
    except Exception as error:
        with suppress(BrokenPipeError):
            connection.send(_Failed(reason=f"{type(error).__name__}: {error}"))
        raise
