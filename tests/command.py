"""The command line in a process of its own, as a person runs it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Start = Callable[..., "subprocess.Popen[bytes]"]


@dataclass(frozen=True)
class Command:
    """A `splitfl` that was started; what it says goes to files."""

    process: "subprocess.Popen[bytes]"
    output: Path
    errors: Path

    def code(self, timeout_s: float = 90.0) -> int:
        """The exit code, waited for."""
        return self.process.wait(timeout=timeout_s)

    def said(self) -> dict[str, Any]:
        """What it said with --json."""
        told = json.loads(self.output.read_text())
        assert isinstance(told, dict)
        return told

    def complained(self) -> str:
        """What it said to a person so far."""
        return self.errors.read_text()


def splitfl(start: Start, folder: Path, *words: str | Path, **env: str) -> Command:
    """Starts `splitfl` with these words; its words go to files in `folder`."""
    number = len(list(folder.glob("said.*")))
    output, errors = folder / f"said.{number}", folder / f"errors.{number}"
    process = start(sys.executable, "-m", "experiments", *words, output=output, errors=errors, **env)
    return Command(process, output, errors)
