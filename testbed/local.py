"""Client processes on this machine: started together, monitored, and ended by process id."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from splitfl.core.errors import PeerLost

_GRACE_S = 5.0
# Clients import the same code as this process, not packages in the working directory.
_ROOT = str(Path(__file__).parent.parent)
_MAX_STARTS = 5
# Clients must not survive this process; not every system has setpriv.
_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []

WrapCommand = Callable[[int, list[str]], list[str]]
"""Wraps a client's command line, for example to run it in a namespace."""


class LocalClients:
    """One process per client: its command of `commands` with `--client N --state FOLDER`.

    Leaving the context ends the processes. A client's output goes to `client-N.log` in the folder `logs`,
    its state to `checkpoint/client-N` there; `words` may wrap its command line.
    """

    def __init__(
        self,
        commands: Sequence[Sequence[str]],
        threads: int,
        logs: Path,
        words: WrapCommand = lambda client, argv: argv,
    ) -> None:
        self._logs = logs
        self._words = words
        self._commands = commands
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")])),
        }
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._starts: Counter[int] = Counter()
        try:
            for client in range(len(commands)):
                self._log(client).unlink(missing_ok=True)
                self._start(client)
        except BaseException:
            self.end()
            raise

    def dead(self) -> dict[int, str]:
        """A message for each client that has failed."""
        return {
            client: self._sentence(client, process.returncode)
            for client, process in self._processes.items()
            if process.poll()
        }

    def restart(self, client: int) -> None:
        """Restarts a failed client. Raises PeerLost after too many restarts."""
        code = self._processes[client].poll()
        if not code:
            return
        if self._starts[client] > _MAX_STARTS:
            raise PeerLost(f"{self._sentence(client, code)}; it was started {self._starts[client]} times")
        self._start(client)

    def _start(self, client: int) -> None:
        self._starts[client] += 1
        state = self._logs / "checkpoint" / f"client-{client}"
        argv = [*_WITH_PARENT, *self._commands[client], "--client", str(client), "--state", str(state)]
        with self._log(client).open("ab") as log:
            self._processes[client] = subprocess.Popen(
                self._words(client, argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
            )

    def _sentence(self, client: int, code: int) -> str:
        last = self._log(client).read_text(errors="replace").strip().splitlines()[-1:]
        said = f"; last output: {last[0].removeprefix('Error: ')}" if last else ""
        return f"client {client} died with {exit_reason(code)}{said} (see {self._log(client)})"

    def wait(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for the clients to exit."""
        deadline_s = time.monotonic() + timeout_s
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline_s - time.monotonic()))

    def end(self) -> None:
        """Terminates running clients, and kills those that remain after a grace period."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        self.wait(_GRACE_S)
        for process in self._processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def _log(self, client: int) -> Path:
        return self._logs / f"client-{client}.log"


def exit_reason(code: int) -> str:
    """The exit code of a process in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
