"""A run that diverges ends at that step, with what was learnt before."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from splitfl.accounting.ledger import Ledger
from splitfl.config import AnalogConfig, ErasureConfig
from splitfl.core.checkpoint import restore
from splitfl.core.errors import ConfigError, Diverged, SplitflError
from splitfl.core.events import Events
from splitfl.core.messages import Done
from splitfl.methods.parts.method import ServerReply, Turn
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.server.exchange import Exchange
from splitfl.server.protocols import RoundEnd
from splitfl.server.virtual_clock import VirtualClock
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import play

place = toy.place(rows=40)


@pytest.mark.slow
def test_a_loss_beyond_the_bound_ends_the_run_and_names_the_step(place: Path, tmp_path: Path) -> None:
    whole = play(Experiment.of(toy.config(place)), tmp_path).losses
    bound = sorted(whole)[-1] * 0.999
    with pytest.raises(Diverged, match=r"client \d in round \d, step \d is \d.*beyond train.max_loss of"):
        play(Experiment.of(toy.config(place, train={"max_loss": bound})), tmp_path)


class NoWatcher:
    def stepped(self, round_index: int, client: int, steps: int) -> None: ...

    def ended(self, end: RoundEnd) -> None: ...

    def all_began(self, round_index: int) -> None: ...


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), -float("inf"), 101.0])
def test_a_diverged_step_is_not_made_part_of_the_state(loss: float, place: Path) -> None:
    server, events = Experiment.of(toy.config(place)).server_method(), Events(None)
    clock = VirtualClock(1e9, 1e9, 1, Ledger(), events)
    erasure = ErasurePolicies(0, ErasureConfig(), AnalogConfig(), lambda message: None, 1500, {})
    exchange = Exchange(server, clock, erasure, events, NoWatcher(), max_loss=100.0)
    before = {name: value.clone() for name, value in server.state().items()}
    outcome = ServerReply(reply=Done(), losses=(1.0, loss), samples=2, change="spoilt")
    with pytest.raises(Diverged, match=f"client 1 in round 3, step 1 is {loss}"):
        exchange.commit(Turn(client=1, round=3, lap=1, position=9), outcome, ends_round=False)
    assert all(torch.equal(value, before[name]) for name, value in server.state().items())
    assert issubclass(Diverged, SplitflError)


def test_a_bound_that_bounds_nothing_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"train.max_loss must be above 0.0, got 0"):
        toy.config(place, train={"max_loss": 0.0})


@pytest.mark.slow
def test_the_last_good_checkpoint_is_kept(place: Path, tmp_path: Path) -> None:
    """A bound that the first round keeps and a later one does not; the folder holds the rounds before."""
    for rate in (1.0, 3.0, 10.0, 30.0, 100.0):
        settings: dict[str, Any] = {"train": {"body_lr": rate, "head_lr": rate}, "federation": {"rounds": 6}}
        rows = play(Experiment.of(toy.config(place, **settings)), tmp_path).rows("step")
        bound = max(row["loss"] for row in rows if row["round"] == 0) * 1.0001
        if max(row["loss"] for row in rows) > bound:
            break
    else:
        pytest.fail("no rate is too large")
    settings["train"]["max_loss"] = bound
    (tmp_path / "toy.json").write_text(json.dumps(toy.table(place, **settings)))
    command = [sys.executable, "-m", "experiments", "run", str(tmp_path / "toy.json")]
    ended = subprocess.run([*command, "--out", str(tmp_path / "runs")], capture_output=True, text=True)
    assert ended.returncode != 0
    assert "the training loss of client" in ended.stderr
    assert "Traceback" not in ended.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "diverged"
    assert "beyond train.max_loss of" in summary["reason"]
    assert "the last finite checkpoint is" in summary["reason"]
    kept = sorted(folder.rglob("*.safetensors"))
    assert kept
    for path in kept:
        assert all(bool(value.isfinite().all()) for value in restore(path)[0].values())
