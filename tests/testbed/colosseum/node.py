"""A node of a batch job on this machine: its scripts below a folder in place of the container's root."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from testbed.colosseum.radio_conf import RadioConf
from tests.testbed.waiting import until

SCRIPTS = Path(__file__).parents[3] / "testbed" / "colosseum" / "node"
SHELL = shutil.which("dash") or "sh"


class ScriptedNode:
    """The scripts and the daemon of a node, by dash; the daemon ends with the context."""

    def __init__(self, root: Path, **conf: Any) -> None:
        self.root = root
        self.logs = root / "logs"
        self.environment = {**os.environ, "SPLITFL_ROOT": str(root)}
        self._daemon: subprocess.Popen[bytes] | None = None
        for name in ("root/radio_api", "logs"):
            (root / name).mkdir(parents=True)
        if conf:
            plain = {"node": "one", "role": "client", "warm": "true", "stop_s": 1}
            (root / "root/radio_api/radio.conf").write_text(RadioConf(**{**plain, **conf}).text())

    def boot(self) -> None:
        """Starts the daemon, as systemd does."""
        command = [SHELL, SCRIPTS / "splitfl-radio"]
        self._daemon = subprocess.Popen(command, env=self.environment)

    def call(self, script: str) -> str:
        """What a script of the radio API prints, as Colosseum calls it."""
        return subprocess.run(
            [SHELL, SCRIPTS / f"{script}.sh"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout

    @property
    def status(self) -> tuple[str, str]:
        """STATUS and INFO."""
        found = json.loads(self.call("status"))
        return found["STATUS"], found["INFO"]

    def reach(self, status: str, info: str = "") -> None:
        """Waits until the node has this status and this text in its INFO."""
        until(lambda: self.status[0] == status and info in self.status[1], 20)

    def kill(self) -> None:
        """Kills the daemon."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._daemon is not None and self._daemon.poll() is None:
            self._daemon.terminate()
            self._daemon.wait(20)


def steps(node: ScriptedNode) -> Iterator[str]:
    """The states that a node went through, from its log."""
    for line in (node.logs / "radio.log").read_text().splitlines():
        word = line.split()[1]
        if word.endswith(":"):
            yield word.removesuffix(":")
