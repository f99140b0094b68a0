"""Metrics reach TensorBoard, wandb and mlflow as they stand in the run's own files, whatever ends the run."""

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import splitfl
from splitfl.config import TrackingConfig
from splitfl.controller.dry_run import controller_for
from splitfl.core.errors import ConfigError, Diverged
from splitfl.run_folder.resume import stopped
from splitfl.runtime.run import run_in_one_process
from splitfl.runtime.screen import Silent
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from splitfl.tracking.registry import TRACKERS, check_installed
from tests.command import Start
from tests.command import splitfl as command
from tests.splitfl import toy
from tests.splitfl.installed import installed, package

ROUNDS = 3


place = toy.place(is_base=True)


def settings(
    place: Path, *to: str, tracking: Mapping[str, Any] | None = None, **tables: Any
) -> dict[str, Any]:
    rated = {"up": {"rate_bps": 1e6}, "down": {"rate_bps": 1e6}}
    return toy.table(
        place,
        **{"federation": {"rounds": ROUNDS}, "link": rated, "tracking": {"to": list(to), **(tracking or {})}}
        | tables,
    )


class Told(Silent):
    """A screen that keeps what it was told, and interrupts the run after a round."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.told: list[str] = []
        self._stop_after = stop_after

    def note(self, what: str) -> None:
        self.told.append(what)

    def measured(self, row: Mapping[str, Any]) -> None:
        if row["round"] == self._stop_after:
            raise KeyboardInterrupt


def stopped_and_resumed(table: Mapping[str, Any], out: Path) -> Path:
    """The folder of a run that was interrupted after its second round and then resumed."""
    with pytest.raises(KeyboardInterrupt):
        splitfl.run(table, out=out, screen=Told(stop_after=1))
    (folder,) = out.iterdir()
    site = Experiment.of(stopped(folder).config)
    run_in_one_process(site, lambda: folder, Silent(), controller_for=controller_for)
    return folder


# ---- TensorBoard


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard's own reader finds."""
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {
        name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]
    }


def texts(folder: Path) -> dict[str, str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    found = {name: events.Tensors(name)[-1].tensor_proto for name in events.Tags()["tensors"]}
    return {name.partition("/")[0]: proto.string_val[0].decode() for name, proto in found.items()}


@pytest.fixture
def tensorboard() -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")


@pytest.mark.slow
@pytest.mark.usefixtures("tensorboard")
def test_tensorboard_reads_every_round_as_the_run_folder_has_it(place: Path, tmp_path: Path) -> None:
    result = splitfl.run(settings(place, "tensorboard"), out=tmp_path)
    read = scalars(result.folder)
    for name in ("train_loss", "eval_loss", "accuracy", "finish_s", "wall_s"):
        wanted = list(zip(result.metrics["round"], result.metrics[name], strict=True))
        assert read[name] == [(step, pytest.approx(value, rel=1e-6)) for step, value in wanted]
    for name in ("bytes_up", "bytes_down", "airtime_s", "energy_j", "client_flops", "server_flops"):
        values = [value for _, value in read[name]]
        assert values == sorted(values)
        assert len(values) == ROUNDS
    assert 0 < read["bytes_up"][0][1] < read["bytes_up"][-1][1] <= result.summary.bytes_up
    said = texts(result.folder)
    assert said["status"] == "done"
    assert json.loads(said["settings"]) == dict(result.config)
    assert json.loads(said["summary"]) == json.loads((result.folder / "summary.json").read_text())


@pytest.mark.slow
@pytest.mark.usefixtures("tensorboard")
def test_a_resumed_run_continues_in_tensorboard_without_a_round_twice(place: Path, tmp_path: Path) -> None:
    folder = stopped_and_resumed(settings(place, "tensorboard"), tmp_path / "runs")
    read = scalars(folder)["train_loss"]
    assert [step for step, _ in read] == list(range(ROUNDS))
    whole = splitfl.run(settings(place), out=tmp_path / "whole")
    assert [value for _, value in read] == pytest.approx(whole.metrics["train_loss"], rel=1e-6)


@pytest.mark.usefixtures("tensorboard")
def test_a_diverged_run_is_marked_so(place: Path, tmp_path: Path) -> None:
    table = settings(place, "tensorboard", train={"max_loss": 1e-6})
    with pytest.raises(Diverged):
        splitfl.run(table, out=tmp_path)
    (folder,) = tmp_path.iterdir()
    assert texts(folder)["status"] == "diverged"
    assert "max_loss" in json.loads(texts(folder)["summary"])["reason"]


@pytest.mark.usefixtures("tensorboard")
@pytest.mark.slow
def test_a_server_over_grpc_tracks_as_a_run_in_one_process_does(
    place: Path, tmp_path: Path, start: Start
) -> None:
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps(settings(place, "tensorboard", transport={"name": "grpc"})), encoding="utf-8")
    ran = command(start, tmp_path, "run", path, "--out", tmp_path / "over", "--json")
    assert ran.code(timeout_s=200.0) == 0, ran.complained()
    alone = splitfl.run(settings(place, "tensorboard"), out=tmp_path / "alone")
    (over, here) = (scalars(folder) for folder in (Path(ran.said()["folder"]), alone.folder))
    for name in over.keys() - {"wall_s"}:
        assert over[name] == here[name]


# ---- Weights & Biases


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


@pytest.mark.slow
@pytest.mark.usefixtures("wandb")
def test_wandb_offline_writes_a_folder_of_the_same_id_for_a_resumed_run(place: Path, tmp_path: Path) -> None:
    folder = stopped_and_resumed(settings(place, "wandb", tracking={"name": "mine"}), tmp_path)
    run_id = (folder / "wandb" / "run_id").read_text()
    written = sorted((folder / "wandb").glob(f"offline-run-*-{run_id}"))
    assert len(written) == 2
    for one in written:
        content = (one / f"run-{run_id}.wandb").read_bytes()
        assert all(word in content for word in (b"train_loss", b"bytes_up", b"head_lr", b"mine"))
    assert b"done" in (written[-1] / f"run-{run_id}.wandb").read_bytes()


# ---- MLflow


@pytest.fixture
def mlflow() -> Callable[[Path], Any]:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    pytest.importorskip("sqlalchemy", reason="sqlalchemy, which MLflow's databases need, is not installed")
    from mlflow import MlflowClient

    def only_run(database: Path) -> Any:
        client = MlflowClient(tracking_uri=f"sqlite:///{database}")
        experiment = client.get_experiment_by_name("radio")
        (run,) = client.search_runs([experiment.experiment_id])
        return run, client.get_metric_history(run.info.run_id, "train_loss")

    return only_run


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # that MLflow gives to its own libraries
def test_mlflow_holds_settings_metrics_and_status_of_a_resumed_run(
    place: Path, tmp_path: Path, mlflow: Callable[[Path], Any]
) -> None:
    tracking = {"project": "radio", "name": "mine", "mlflow_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    folder = stopped_and_resumed(settings(place, "mlflow", tracking=tracking), tmp_path / "runs")
    run, history = mlflow(tmp_path / "mlflow.db")
    result = splitfl.load_run(folder)
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params["train.head_lr"] == "0.01"
    assert run.data.params["federation.rounds"] == str(ROUNDS)
    assert run.data.tags["summary.status"] == "done"
    assert run.data.tags["summary.bytes_up"] == str(result.summary.bytes_up)
    assert {one.step: one.value for one in history} == dict(enumerate(result.metrics["train_loss"]))
    assert run.data.metrics["bytes_up"] <= result.summary.bytes_up


@pytest.mark.slow
@pytest.mark.usefixtures("mlflow")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_mlflow_server_that_does_not_answer_is_refused_within_a_minute(
    place: Path, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    tracking = {"mlflow_uri": f"http://127.0.0.1:{port}"}
    began_s = time.monotonic()
    with pytest.raises(ConfigError, match="mlflow cannot start: "):
        splitfl.run(settings(place, "mlflow", tracking=tracking), out=tmp_path / "runs")
    assert time.monotonic() - began_s < 60.0


# ---- what is refused, and what fails

FAILING = """
from dataclasses import dataclass

from splitfl.tracking.spec import TrackerSpec


@dataclass(frozen=True, kw_only=True)
class FailingSettings:
    fails_at: str = ""


class Failing:
    def __init__(self, run):
        self.at = {"start": -1, "log": 1}.get(run.tracking.of(FailingSettings).fails_at, 99)
        if self.at == -1:
            raise OSError("no login")

    def log(self, round_index, metrics):
        if round_index == self.at:
            raise OSError("the disk is full")

    def finish(self, summary):
        raise OSError("gone")

    def close(self):
        raise OSError("gone")


PLUGIN = TrackerSpec(
    about="fails", package="json", install="pip install it", settings=FailingSettings, start=Failing
)
"""


@pytest.fixture
def failing(tmp_path: Path) -> Iterator[None]:
    folder = tmp_path / "site"
    folder.mkdir()
    with installed(package(folder, "splitfl.trackers", "failing", FAILING), TRACKERS):
        yield
    sys.modules.pop("foreign_failing", None)


@pytest.mark.usefixtures("failing")
def test_a_tracker_that_fails_is_named_once_and_the_run_ends_well(place: Path, tmp_path: Path) -> None:
    screen = Told()
    result = splitfl.run(
        settings(place, "failing", tracking={"fails_at": "log"}), out=tmp_path / "runs", screen=screen
    )
    what = "tracking to failing failed after round 2: OSError: the disk is full"
    assert screen.told == [f"{what}; the run continues without it"]
    assert result.summary.status == "done"
    assert list(result.summary.tracking_failures) == [what]
    assert result.metrics["round"] == list(range(ROUNDS))


@pytest.mark.slow
@pytest.mark.usefixtures("failing")
def test_a_tracker_that_fails_at_the_end_leaves_a_summary(place: Path, tmp_path: Path) -> None:
    result = splitfl.run(settings(place, "failing"), out=tmp_path / "runs")
    assert list(result.summary.tracking_failures) == [
        "tracking to failing failed at the end of the run: OSError: gone"
    ]


@pytest.mark.usefixtures("failing")
def test_a_tracker_that_cannot_start_is_refused_and_leaves_no_folder(place: Path, tmp_path: Path) -> None:
    table = settings(place, "failing", tracking={"fails_at": "start"})
    with pytest.raises(ConfigError, match=r"tracking.to: failing cannot start: OSError: no login"):
        splitfl.run(table, out=tmp_path / "runs")
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.parametrize(
    ("tracking", "reason"),
    [
        ({"to": ["tensorbord"]}, "unknown tracking.to 'tensorbord'; did you mean 'tensorboard'"),
        (
            {"project": "mine"},
            "'tracking.project'; the keys are to; it is a key of wandb, mlflow",
        ),
        (
            {"to": ["tensorboard"], "name": "a"},
            "'tracking.name'; the tracker 'tensorboard' has the keys to; it is a key of wandb, mlflow",
        ),
        ({"to": "wandb", "mlflow_uri": "x"}, "'tracking.mlflow_uri'; .* it is a key of mlflow"),
        ({"to": ["wandb", "wandb"]}, "to must name each tracker once"),
        ({"to": ["wandb"], "wandb_mode": "off"}, "unknown tracking.wandb_mode 'off'.* have offline, online"),
        ({"to": ["wandb"], "project": ""}, "project must not be empty"),
        ({"to": [1]}, "tracking.to must be a list of strings"),
    ],
)
def test_a_setting_that_no_chosen_tracker_reads_is_refused(tracking: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        from_dict({"tracking": tracking})


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_whose_package_is_missing_is_refused_with_its_extra(name: str) -> None:
    if find_spec(name) is not None:
        assert check_installed(TrackingConfig(to=(name,))).keys() == {name}
        return
    with pytest.raises(ConfigError, match=rf"{name} is not installed: pip install 'splitfl\[{name}\]'"):
        check_installed(TrackingConfig(to=(name,)))
