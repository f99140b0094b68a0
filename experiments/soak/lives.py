"""What the server's and a client's process of a soak does, from its start until it is killed or done."""

import faulthandler
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from experiments import joining, serving
from experiments.run_folder.resume import stopped
from experiments.soak.road import rough
from splitfl.config.experiment_file import load
from splitfl.setup.experiment import Experiment
from splitfl.transport.registry import Joining

PRELOADED: Final = [__name__, "peft.tuners.lora", "transformers.models.gpt2.modeling_gpt2"]
"""What the process holds already from which the others are forked, so that each is there at once."""

_FIND_S: Final = 120.0


def serve(folder: Path, log: Path) -> None:
    """The server of the run in this folder: from its beginning, or from where it was killed."""
    _say_to(log)
    is_new = not (folder / "server.json").exists()
    config = load(folder / "config.json") if is_new else stopped(folder).config
    serving.serve(Experiment.of(config), lambda: folder, Quiet(), spawn=False)


def join(port: int, client: int, state: Path, seed: int, life: int, log: Path) -> None:
    """A client of the run behind this port of this machine, in its so manieth life."""
    _say_to(log)
    address = Joining(address=f"127.0.0.1:{port}", client=client, timeout_s=_FIND_S)
    joining.join(
        rough(seed, life),
        address,
        state=state,
        adjust=lambda config: config,
        on_step=lambda round_index, message: None,
        on_begin=lambda config: None,
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


class Quiet:
    """A screen that is a log."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Screen: nobody looks on."""

    def measured(self, row: Mapping[str, Any]) -> None:
        """See Screen: nobody looks on."""

    def waiting(self, address: str, missing: list[int]) -> None:
        """See Screen: nobody looks on."""

    def said(self, what: str) -> None:
        """See Screen."""
        print(what, flush=True)
