"""Clients as processes of this machine: started together, watched, and ended by their ids."""

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
# Clients run the same code as this process, not an `experiments` that lies where it was started.
_ROOT = str(Path(__file__).parent.parent)
_MOST_LIVES = 5
# Whatever becomes of this process, its clients must not be left behind; not every system has the tool.
_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []

Words = Callable[[int, list[str]], list[str]]
"""The command line that starts this client's own somewhere else, in a namespace for instance."""


class LocalClients:
    """One process for each client of a server on this machine: `command` with `--client N --state FOLDER`.

    Leaving the context ends the processes that still run. A client's output goes to `client-N.log` in the
    folder given, its state to `checkpoint/client-N`; `words` wraps the command line of one that is to run
    somewhere else.
    """

    def __init__(
        self,
        command: Sequence[str],
        clients: int,
        threads: int,
        logs: Path,
        words: Words = lambda client, argv: argv,
    ) -> None:
        self._logs = logs
        self._words = words
        self._argv = [*_WITH_PARENT, *command]
        self._environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")])),
        }
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lives: Counter[int] = Counter()
        try:
            for client in range(clients):
                self._log(client).unlink(missing_ok=True)
                self._start(client)
        except BaseException:
            self.end()
            raise

    def dead(self) -> dict[int, str]:
        """What became of each client that has ended badly, in a sentence."""
        return {
            client: self._sentence(client, process.returncode)
            for client, process in self._processes.items()
            if process.poll()
        }

    def revive(self, client: int) -> None:
        """Starts a client that has ended badly once more; PeerLost where that was of no use before."""
        code = self._processes[client].poll()
        if not code:
            return
        if self._lives[client] > _MOST_LIVES:
            raise PeerLost(f"{self._sentence(client, code)}; it was started {self._lives[client]} times")
        self._start(client)

    def _start(self, client: int) -> None:
        self._lives[client] += 1
        state = self._logs / "checkpoint" / f"client-{client}"
        argv = [*self._argv, "--client", str(client), "--state", str(state)]
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
        said = f"; it said: {last[0].removeprefix('Error: ')}" if last else ""
        return f"client {client} died with {how(code)}{said} (see {self._log(client)})"

    def wait(self, timeout_s: float) -> None:
        """Gives the clients so long to end by themselves."""
        deadline_s = time.monotonic() + timeout_s
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline_s - time.monotonic()))

    def end(self) -> None:
        """Ends every client that still runs: asks first, then insists."""
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


def how(code: int) -> str:
    """A process's end in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
