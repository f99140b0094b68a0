"""The entry points of a soak's server and client processes."""

import faulthandler
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from experiments.soak.unreliable_grpc import unreliable_grpc
from splitfl.controller.dry_run import controller_for
from splitfl.run_folder.resume import stopped
from splitfl.runtime.join import join as take_part
from splitfl.runtime.screen import Silent
from splitfl.runtime.serve import serve as serve_run
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load
from splitfl.transport.base.spec import Joining

PRELOADED: Final = [__name__, "peft.tuners.lora", "transformers.models.gpt2.modeling_gpt2"]
"""Modules preloaded in the fork server, so that processes start fast."""

_FIND_S: Final = 120.0


def serve(folder: Path, log: Path) -> None:
    """Runs the server in this folder, from the start or resumed from its last checkpoint."""
    _redirect_output(log)
    is_new = not (folder / "server.json").exists()
    config = load(folder / "config.json") if is_new else stopped(folder).config
    serve_run(Experiment.of(config), lambda: folder, LogScreen(), controller_for=controller_for)


def join(port: int, client: int, state: Path, seed: int, life: int, log: Path) -> None:
    """Runs a client that connects to this local port; `life` counts its processes."""
    _redirect_output(log)
    address = Joining(address=f"127.0.0.1:{port}", client=client, timeout_s=_FIND_S)
    take_part(
        unreliable_grpc(seed, life),
        address,
        state=state,
        on_disconnect=lambda why: print(f"client {client}: {why}", flush=True),
    )


def temporary(folder: Path) -> Path:
    """The folder for temporary files of a soak's processes."""
    return folder / "temporary"


def _redirect_output(log: Path) -> None:
    """Redirects output to this log, and dumps all threads' stacks on SIGUSR1."""
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary(log.parent))
    faulthandler.register(signal.SIGUSR1)


class LogScreen(Silent):
    """Prints the run's notes to the log."""

    def note(self, what: str) -> None:
        """See Screen."""
        print(what, flush=True)
