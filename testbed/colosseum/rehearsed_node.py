"""A node of a rehearsed batch job: a folder with a container's files, and a network namespace."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from testbed.namespaces import Namespace

SCRIPTS: Final = Path(__file__).parent / "node"
"""The daemon and the scripts of the radio API, as an image has them."""
_SOURCE: Final = str(Path(__file__).parents[2])
_API: Final = "root/radio_api"
_BIN: Final = "opt/splitfl/bin"
_PROGRAMS: Final[Mapping[str, str]] = {"splitfl": "-P -m experiments", "python": ""}


@dataclass(frozen=True, kw_only=True)
class Call:
    """One call of a script: how long it took, its exit status (None beyond the limit), and its output."""

    script: str
    took_s: float
    code: int | None
    output: str


class RehearsedNode:
    """A container with an image's files and those that Colosseum adds, not yet booted."""

    def __init__(
        self, name: str, root: Path, namespace: Namespace, *, radio_conf: Path, config_ini: str
    ) -> None:
        """`radio_conf` is a file, `config_ini` the contents of colosseum_config.ini."""
        self.name = name
        self.logs = root / "logs"
        self.calls: list[Call] = []
        self._root, self._namespace = root, namespace
        self._daemon: subprocess.Popen[bytes] | None = None
        for folder in (_API, _BIN, "logs"):
            (root / folder).mkdir(parents=True)
        for script in SCRIPTS.iterdir():
            shutil.copy(script, root / (_API if script.suffix == ".sh" else _BIN))
        for program, words in _PROGRAMS.items():
            self._write_program(root / _BIN / program, words)
        shutil.copy(radio_conf, root / _API / "radio.conf")
        (root / _API / "colosseum_config.ini").write_text(config_ini, encoding="utf-8")
        self._environment = {**os.environ, "SPLITFL_ROOT": str(root), "SPLITFL_REHEARSAL": "yes"}

    def boot(self) -> None:
        """Starts the daemon, as systemd does in a container."""
        with (self.logs / "daemon.log").open("wb") as log:
            self._daemon = self._popen(self._root / _BIN / "splitfl-radio", stdout=log, stderr=log)

    def call(self, script: str, limit_s: float) -> Call:
        """Calls a script of the radio API as Colosseum does, and kills it at the limit."""
        began_s = time.monotonic()
        process = self._popen(
            self._root / _API / f"{script}.sh", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        code: int | None = None
        try:
            output, _ = process.communicate(timeout=limit_s)
            code = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        took_s = time.monotonic() - began_s
        made = Call(script=script, took_s=took_s, code=code, output=output.decode(errors="replace").strip())
        self.calls.append(made)
        return made

    def status(self, limit_s: float) -> tuple[str, str]:
        """STATUS and INFO that status.sh prints; ERROR for output that is not its JSON."""
        call = self.call("status", limit_s)
        with suppress(ValueError, TypeError, KeyError):
            found = json.loads(call.output)
            return str(found["STATUS"]), str(found.get("INFO", ""))
        return "ERROR", f"status.sh printed {call.output!r}"

    def exit_status(self, loop: int, limit_s: float) -> int | None:
        """The exit status of a loop's run as statistics.sh prints it; None until it has ended."""
        with suppress(ValueError, TypeError, KeyError):
            found = json.loads(self.call("statistics", limit_s).output)
            if found["LOOP"] == loop and found["EXIT_STATUS"] is not None:
                return int(found["EXIT_STATUS"])
        return None

    def kill(self) -> None:
        """Kills the daemon and the processes in the namespace, as the removal of a container does."""
        self._namespace.kill()
        if self._daemon is not None:
            self._daemon.wait()

    def _popen(self, program: Path, **files: Any) -> "subprocess.Popen[bytes]":
        process: subprocess.Popen[bytes] = self._namespace.popen(
            ["sh", program], env=self._environment, stdin=subprocess.DEVNULL, **files
        )
        return process

    def _write_program(self, path: Path, words: str) -> None:
        """The image's `splitfl` and `python`, which here run this process's interpreter and packages."""
        lines = ["#!/bin/sh", f'PYTHONPATH="{_SOURCE}${{PYTHONPATH:+:$PYTHONPATH}}"', "export PYTHONPATH"]
        path.write_text("\n".join([*lines, f'exec "{sys.executable}" {words} "$@"', ""]), encoding="utf-8")
        path.chmod(0o755)
