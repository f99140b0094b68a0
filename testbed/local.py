"""Clients as processes of this machine: started together, watched, and ended by their ids."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_GRACE_S = 5.0
# Clients run the same code as this process, not an `experiments` that lies where it was started.
_ROOT = str(Path(__file__).parent.parent)


class LocalClients:
    """One `splitfl join` for each client of a server on this machine.

    Leaving the context ends whatever still runs. What a client prints goes to
    `client-N.log` in the folder given.
    """

    def __init__(self, address: str, clients: int, threads: int, logs: Path) -> None:
        self._logs = logs
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")])),
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        try:
            for client in range(clients):
                with self._log(client).open("wb") as log:
                    self._processes.append(
                        subprocess.Popen(
                            [
                                sys.executable,
                                "-P",
                                "-m",
                                "experiments",
                                "join",
                                address,
                                "--client",
                                str(client),
                            ],
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=subprocess.STDOUT,
                            env=environment,
                        )
                    )
        except BaseException:
            self.end()
            raise

    def dead(self) -> str | None:
        """What became of the first client that ended badly, in a sentence; None while all is well."""
        for client, process in enumerate(self._processes):
            if process.poll():
                last = self._log(client).read_text(errors="replace").strip().splitlines()[-1:]
                said = f"; it said: {last[0].removeprefix('Error: ')}" if last else ""
                return f"client {client} died with {_how(process.returncode)}{said} (see {self._log(client)})"
        return None

    def wait(self, timeout_s: float) -> None:
        """Gives the clients so long to end by themselves."""
        deadline_s = time.monotonic() + timeout_s
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline_s - time.monotonic()))

    def end(self) -> None:
        """Ends every client that still runs: asks first, then insists."""
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        self.wait(_GRACE_S)
        for process in self._processes:
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


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
