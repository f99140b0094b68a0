"""How many files a message passes through, from the frame that arrives to the frame that goes back."""

import sys
from pathlib import Path
from types import FrameType

import pytest

import channel
import splitfl
from splitfl.core.messages import Activation
from splitfl.server.server_loop import Answer
from splitfl.server.sync_server import SyncServer
from splitfl.setup.experiment import Experiment
from splitfl.wire import Frame
from tests.splitfl import toy
from tests.splitfl.driver import play

ROOMS = {
    name: Path(package.__file__).parent for name, package in (("splitfl", splitfl), ("channel", channel))
}
COMPUTATION = (
    "splitfl/models",
    "splitfl/adapters",
    "splitfl/accounting/flops.py",
    "splitfl/core/registry.py",
)
"""What runs the model: forward, backward and their FLOPs, by kind of adapter."""
CALLER = "splitfl/runtime/simulate.py"
"""What takes the reply, as a transport does."""


def files_of_a_step(monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path) -> set[str]:
    """The files with a function that is called for one activation on the server's side."""
    found: set[str] = set()
    post = SyncServer.post

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            path = Path(frame.f_code.co_filename)
            for name, folder in ROOMS.items():
                if path.is_relative_to(folder):
                    found.add(f"{name}/{path.relative_to(folder)}")

    def traced(self: SyncServer, frame: Frame, answer: Answer) -> None:
        if frame.kind != "Activation" or found:
            post(self, frame, answer)
            return
        sys.setprofile(count)
        try:
            post(self, frame, answer)
        finally:
            sys.setprofile(None)

    monkeypatch.setattr(SyncServer, "post", traced)
    link = {"up": {"rate_bps": 1e6, "loss_rate": 0.1}, "down": {"rate_bps": 1e6, "loss_rate": 0.1}}
    run = play(Experiment.of(toy.config(place, link=link)), tmp_path)
    assert any(isinstance(message, Activation) for *_, message, _ in run.said)
    return found


def test_a_step_passes_through_at_most_fourteen_files_of_the_server_and_the_channel(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of_a_step(monkeypatch, place, tmp_path)
    path = sorted(name for name in files if not name.startswith((*COMPUTATION, CALLER)))
    assert {"splitfl/server/exchange.py", "channel/links/fixed.py", "splitfl/wire/frame.py"} <= set(path)
    assert len(path) <= 14, "\n".join(path)


place = toy.place(rows=40)
