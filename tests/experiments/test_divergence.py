"""A run that is not finite ends as diverged, exports nothing, and keeps the last state that was finite."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

from experiments.cli.main import main
from experiments.local_clients import run_here
from experiments.report import write_comparison, write_report
from splitfl.adapters.registry import ADAPTERS
from splitfl.client.client import ClientNode
from splitfl.config import RunConfig
from splitfl.core.checkpoint import CheckpointStore, restore
from splitfl.core.errors import Diverged
from splitfl.core.messages import Begin
from splitfl.core.state import not_finite
from splitfl.methods.registry import METHODS
from splitfl.run_folder import resume as resuming
from splitfl.run_folder.create import fill
from splitfl.run_folder.read import read_run
from splitfl.runtime.screen import Silent
from splitfl.server.run import Run
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from splitfl.wire import Frame, decode
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.adapters.kinds import MOST

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

RATE = 1e30


place = toy.place(is_base=True, rows=40)


def too_fast(place: Path, **tables: dict[str, Any]) -> RunConfig:
    rates = {"head_lr": RATE, "body_lr": RATE}
    read = METHODS[tables.get("method", {}).get("name", "sfl-v2")].reads
    table = toy.table(place, **tables)
    table["train"] |= {name: rate for name, rate in rates.items() if name in table["train"]}
    assert any(f"train.{name}" in read or name in table["train"] for name in rates)
    return from_dict(table)


def assert_diverged(folder: Path, said: str) -> None:
    """The folder says so, holds strict JSON alone, nothing exported, and only finite checkpoints."""
    summary = json.loads((folder / "summary.json").read_text(), parse_constant=refused)
    assert (summary["status"], summary["reason"]) == ("diverged", said)
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=refused)
    assert not (folder / "adapter").exists()
    assert not (folder / "model").exists()
    for path in (folder / "checkpoint").rglob("*.safetensors"):
        assert not_finite(restore(path)[0]) is None, path
    kept = sorted((folder / "checkpoint").glob("round-*.safetensors"))
    last = f"the last finite checkpoint is {kept[-1]}" if kept else "there is no earlier checkpoint"
    assert said.endswith(last)


def refused(word: str) -> None:
    raise AssertionError(f"{word} is no JSON")


def diverge(config: RunConfig, folder: Path) -> str:
    fill(folder, config)
    with pytest.raises(Diverged) as raised:
        run_here(Experiment.of(config), lambda: folder, Silent())
    return str(raised.value)


CASES = [(name, 3) for name in METHODS] + [(name, 1) for name in ("sfl-v2", "frozen", "decomfl")]
"""In the first and only round there is no checkpoint to name, whatever the method."""


@pytest.mark.parametrize(("name", "rounds"), quick(CASES, ("sfl-v2", 1)))
def test_every_method_ends_as_diverged(name: str, rounds: int, place: Path, tmp_path: Path) -> None:
    tables = {"method": {"name": name}, "federation": {"rounds": rounds, "local_steps": 1}}
    said = diverge(too_fast(place, **tables), tmp_path / "run")
    assert_diverged(tmp_path / "run", said)


@pytest.mark.parametrize("kind", quick(ADAPTERS, "full"))
def test_every_kind_of_adapter_ends_as_diverged(kind: str, place: Path, tmp_path: Path) -> None:
    own = {"kind": kind, **({"rank": MOST[kind]} if kind in MOST else {})}
    aggregator = "rolora" if ADAPTERS[kind].linear is True else "mean"
    table = toy.table(place, federation={"rounds": 1, "aggregator": aggregator})
    table["adapter"] = {"head": own, "body": own}
    table["train"] |= {"head_lr": RATE, "body_lr": RATE}
    said = diverge(from_dict(table), tmp_path / "run")
    assert_diverged(tmp_path / "run", said)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rpc", "grpc"])
def test_a_run_over_a_transport_ends_as_diverged_too(name: str, place: Path, tmp_path: Path) -> None:
    table = toy.table(place, federation={"rounds": 3, "local_steps": 2})
    table["train"] |= {"head_lr": RATE, "body_lr": RATE}
    table["transport"] |= {"name": name}
    (tmp_path / "toy.json").write_text(json.dumps(table))
    command = [sys.executable, "-m", "experiments", "run", str(tmp_path / "toy.json")]
    ended = subprocess.run([*command, "--out", str(tmp_path / "runs")], capture_output=True, text=True)
    assert (ended.returncode, "Traceback" in ended.stderr) == (1, False)
    (folder,) = (tmp_path / "runs").iterdir()
    said = json.loads((folder / "summary.json").read_text())["reason"]
    assert_diverged(folder, said)
    assert f"Error: {said}" in ended.stderr.splitlines()


class Spoiling(Silent):
    """Puts an infinity into what the server's optimiser or adapters hold, once a round has been shown."""

    def __init__(self, name: str, at: int) -> None:
        self.run: Run | None = None
        self._name, self._at = name, at

    def measured(self, row: Any) -> None:
        assert self.run is not None
        if row["round"] == self._at:
            state = dict(self.run.server.state())
            key = next(key for key in state if self._name in key)
            state[key] = torch.full_like(state[key], math.inf)
            self.run.server.restore(state)


def spoilt(folder: Path, config: RunConfig, screen: Spoiling, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the run says that ends once the screen has spoilt it."""
    begin = Run.__init__

    def remembered(self: Run, *args: Any) -> None:
        begin(self, *args)
        screen.run = self

    monkeypatch.setattr(Run, "__init__", remembered)
    with pytest.raises(Diverged) as raised:
        run_here(Experiment.of(config), lambda: folder, screen)
    return str(raised.value)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "at"), [("exp_avg", 1), ("lora_A", 1), ("lora_A", 0), ("exp_avg", 2)])
def test_states_that_are_not_finite_are_not_stored(
    name: str, at: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy.config(place, federation={"rounds": 3})
    folder = fill(tmp_path / "run", config)
    said = spoilt(folder, config, Spoiling(name, at), monkeypatch)
    assert re.search(f"{name}.*after round {at} has values that are not finite", said)
    assert_diverged(folder, said)
    assert (f"round-{at - 1}.safetensors" in said) == (at > 0)
    assert (folder / "checkpoint" / "client-0" / f"round-{at - 1}.safetensors").exists() == (at > 0)


def test_a_client_keeps_no_state_that_is_not_finite_and_says_so(place: Path, tmp_path: Path) -> None:
    site = Experiment.of(toy.config(place))
    method, shelf = site.client_method(0), CheckpointStore.of_client(tmp_path)
    node = ClientNode(0, method, shelf)
    message, _ = decode(node.frame(node.begin(0)[1]))
    assert isinstance(message, Begin)
    state = dict(method.state())
    key = next(key for key in state if "lora_A" in key)
    method.restore({**state, key: torch.full_like(state[key], math.nan)})
    sent = node.frame(node.begin(1)[1])
    spoilt, _ = decode(sent)
    assert shelf.rounds() == []
    assert isinstance(spoilt, Begin)
    assert message.is_finite
    assert not spoilt.is_finite
    with Run(site, None, Silent()) as run:
        run.server_loop.membership.start_at(1)
        run.server_loop._order.start_at(1, 9)  # type: ignore[attr-defined]
        with pytest.raises(
            Diverged, match="client 0 begins round 1 with adapters or optimiser state that are"
        ):
            run.server_loop.handle(Frame(sent), lambda reply: None)


@pytest.mark.slow
def test_a_run_that_diverged_is_read_reported_and_compared(place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    diverge(too_fast(place, federation={"clients": 1, "rounds": 1, "local_steps": 1}), folder)
    run = read_run(folder)
    assert run.summary.status == "diverged"
    assert math.isnan(run.summary.final["eval_loss"])
    assert "It diverged; the last figures were" in write_report(folder).read_text()
    diverge(too_fast(place, federation={"rounds": 1}), tmp_path / "early")
    assert "It diverged in its first round" in write_report(tmp_path / "early").read_text()
    assert "run, diverged" in write_comparison([folder], tmp_path / "page.html").read_text()
    said = CliRunner().invoke(main, ["compare", str(folder), "--json", "--out", str(tmp_path / "p")])
    (row,) = json.loads(said.stdout, parse_constant=refused)
    assert (row["status"], row["final"]["eval_loss"]) == ("diverged", None)


@pytest.mark.slow
def test_a_diverged_run_may_be_resumed(place: Path, tmp_path: Path) -> None:
    diverge(too_fast(place, federation={"rounds": 1}), tmp_path / "run")
    assert resuming.stopped(tmp_path / "run").spawn


@pytest.mark.slow
@pytest.mark.parametrize(
    "tables",
    [{"federation": {"schedule": "anarchic", "aggregator": "mean"}}, {"link": {"scenario": "lab-wifi"}}],
    ids=["at their own pace", "in a cell"],
)
def test_clients_that_play_together_end_as_diverged(
    tables: dict[str, Any], place: Path, tmp_path: Path
) -> None:
    said = diverge(too_fast(place, **tables), tmp_path / "run")
    assert_diverged(tmp_path / "run", said)


@pytest.mark.slow
def test_a_diverged_run_resumes_from_its_last_finite_checkpoint(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy.config(place, federation={"rounds": 3})
    unbroken = fill(tmp_path / "unbroken", config)
    run_here(Experiment.of(config), lambda: unbroken, Silent())
    folder = fill(tmp_path / "run", config)
    spoilt(folder, config, Spoiling("lora_A", 1), monkeypatch)
    monkeypatch.undo()
    run_here(Experiment.of(resuming.stopped(folder).config), lambda: folder, Silent())
    assert read_run(folder).summary.status == "done"
    ended, expected = (load_file(one / "adapter" / "adapter_model.safetensors") for one in (folder, unbroken))
    assert ended.keys() == expected.keys()
    assert all(torch.equal(ended[name], value) for name, value in expected.items())
