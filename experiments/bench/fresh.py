"""A function at work in a fresh process of its own, which hands over a value, waits, and goes on."""

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
"""Hands a value over; returns when the other side says so."""

_SPAWN = multiprocessing.get_context("spawn")
_GRACE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class _Died:
    reason: str


class BenchError(SplitflError):
    """A benchmark cannot be run, or would compare what must not be compared."""


class NotHere(BenchError):
    """A benchmark needs something optional that this installation lacks; the message says what."""


class Fresh:
    """Runs `function(hand, *arguments)` elsewhere; as a context, it leaves no process behind."""

    def __init__(self, log: Path, function: Callable[..., None], *arguments: Any) -> None:
        """What the process and its children print goes to `log`."""
        self._log = log
        self._ours, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_work, args=(log, theirs, function, arguments))
        self._process.start()
        theirs.close()

    def take(self, timeout_s: float = 300.0) -> Any:
        """The next value that it hands over; BenchError, with the reason, where none comes."""
        if not self._ours.poll(timeout_s):
            raise BenchError(f"{self._log.stem} was silent for {timeout_s:g} s")
        try:
            value = self._ours.recv()
        except EOFError:
            raise BenchError(f"{self._log.stem} died without a word") from None
        if isinstance(value, _Died):
            raise BenchError(f"{self._log.stem} died: {value.reason}")
        return value

    def go(self) -> None:
        """Lets it go on from the value that it handed over last."""
        with suppress(BrokenPipeError):
            self._ours.send(None)

    def signal(self, sent: signal.Signals) -> None:
        """Sends it this, as the kernel or a person would."""
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, sent)

    def kill(self) -> None:
        """Ends it at once, whatever it is at."""
        self.signal(signal.SIGKILL)
        self._process.join()

    def end(self) -> None:
        """Waits for it to finish by itself; then ends it and whatever it has started."""
        self._process.join(_GRACE_S)
        if self._process.pid is not None and self._process.is_alive():
            family = psutil.Process(self._process.pid)
            for process in [*family.children(recursive=True), family]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self._process.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ours.close()  # whoever waits in there to go on is told so
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
            connection.send(_Died(reason=f"{type(error).__name__}: {error}"))
        raise
