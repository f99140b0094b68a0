"""What the server's and a client's process of a soak does, from its start until it is killed or done."""

import faulthandler
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Final

from experiments.soak.road import rough
from splitfl.controller.dry_run import controller_for
from splitfl.run_folder.resume import stopped
from splitfl.runtime.join import join as take_part
from splitfl.runtime.screen import Silent
from splitfl.runtime.serve import serve as serve_run
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load
from splitfl.transport.base.spec import Joining

PRELOADED: Final = [__name__, "peft.tuners.lora", "transformers.models.gpt2.modeling_gpt2"]
"""What the process holds already from which the others are forked, so that each is there at once."""

_FIND_S: Final = 120.0


def serve(folder: Path, log: Path) -> None:
    """The server of the run in this folder: from its beginning, or from where it was killed."""
    _say_to(log)
    is_new = not (folder / "server.json").exists()
    config = load(folder / "config.json") if is_new else stopped(folder).config
    serve_run(Experiment.of(config), lambda: folder, LogScreen(), controller_for=controller_for)


def join(port: int, client: int, state: Path, seed: int, life: int, log: Path) -> None:
    """A client of the run behind this port of this machine, in its so manieth life."""
    _say_to(log)
    address = Joining(address=f"127.0.0.1:{port}", client=client, timeout_s=_FIND_S)
    take_part(
        rough(seed, life),
        address,
        state=state,
        on_away=lambda why: print(f"client {client}: {why}", flush=True),
    )


def temporary(folder: Path) -> Path:
    """Where the processes of the soak in this folder keep what they need for a while."""
    return folder / "temporary"


def _say_to(log: Path) -> None:
    """Whatever this process says goes there; told by SIGUSR1, it says where each of its threads is."""
    with log.open("ab") as file:
        for said in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), said.fileno())
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary(log.parent))
    faulthandler.register(signal.SIGUSR1)


class LogScreen(Silent):
    """A screen that is a log."""

    def said(self, what: str) -> None:
        """See Screen."""
        print(what, flush=True)
