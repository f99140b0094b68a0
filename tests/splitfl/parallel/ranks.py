"""Processes that torchrun starts on this machine, over loopback."""

import subprocess
import sys
from pathlib import Path

from tests.command import Command, Start

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1")


def torchrun(
    start: Start, folder: Path, *words: str | Path, ranks: int = 2, restarts: int = 0, **env: str
) -> Command:
    """Starts these words of Python (`-m experiments ...`) as so many ranks."""
    number = len(list(folder.glob("ranks.*")))
    output, errors = folder / f"ranks.{number}", folder / f"errors.{number}"
    counts = ("--nproc-per-node", str(ranks), "--max-restarts", str(restarts))
    settings = {"GLOO_SOCKET_IFNAME": "lo", **env}
    process: subprocess.Popen[bytes] = start(
        *TORCHRUN, *counts, *words, output=output, errors=errors, **settings
    )
    return Command(process, output, errors)
