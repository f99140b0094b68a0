"""Methods train adapters above a quantised base as above any other."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import splitfl
from experiments.report.story import loading_code
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.methods.registry import METHODS
from splitfl.models.load import load_piece
from splitfl.models.quantised import PACKAGES
from splitfl.run_folder.read import read_run
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load
from tests.quick import quick
from tests.splitfl import quantised, toy
from tests.splitfl.driver import play
from tests.splitfl.methods.plain import Plain
from tests.splitfl.methods.test_conformance import settings

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(scope="module", params=quick(["int8", "int4", "nf4"], "int4"))
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    quantised.quantise(toy.model(folder / "model", is_base=True), request.param)
    toy.data(folder / "data.tsv", rows=40)
    return folder


@pytest.mark.slow
def test_split_finetuning_is_that_of_the_whole_quantised_model(place: Path, tmp_path: Path) -> None:
    config = toy.config(place, federation={"clients": 1, "aggregator": "mean"})
    site = Experiment.of(config)
    whole = load_piece(place / "model", site.task.kind, 0, num_labels=site.task.num_labels).model
    plain, batches = Plain(site, stock=whole), site.batches(0)
    played = play(site, tmp_path)
    assert played.losses == [plain.step(batches.batch(step)) for step in range(6)]
    assert plain.differs(played.trained) == []
    assert run_dry(site).ledger == played.ledger


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_above_it(name: str, place: Path, tmp_path: Path) -> None:
    site = Experiment.of(settings(place, name))
    played = play(site, tmp_path)
    assert all(torch.isfinite(torch.tensor(loss)) for loss in played.losses)
    assert run_dry(site).ledger == played.ledger


def test_the_exported_adapter_measures_the_same_on_the_quantised_model(place: Path, tmp_path: Path) -> None:
    finished = splitfl.run(toy.table(place), out=tmp_path)
    site = Experiment.of(load(finished.folder / "config.json"))
    found = measure_adapter(site, finished.folder / "adapter")
    assert found["eval_loss"] == finished.metrics["eval_loss"][-1]


def test_full_finetuning_is_refused(place: Path) -> None:
    model = {"name": str(place / "model"), "quantization": "int8"}
    full = {side: {"kind": "full"} for side in ("head", "body")}
    with pytest.raises(ConfigError, match=r"model.quantization must be 'none' where the model's own weights"):
        Experiment.of(toy.config(place, model=model, adapter=full))


def test_torchao_is_missed_before_a_model_is_loaded(place: Path, tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv")
    if find_spec("torchao"):
        pytest.skip("torchao is installed")
    with pytest.raises(ConfigError, match=r"needs torchao, .*: pip install 'splitfl\[quantization\]'"):
        Experiment.of(toy.config(tmp_path, model={"quantization": "int8"}))


def test_a_group_size_without_int4_is_refused(place: Path) -> None:
    model = {"name": str(place / "model"), "quantization": "int8", "quantization_group_size": 32}
    with pytest.raises(ConfigError, match=r"quantization_group_size is read only with .* 'int4'"):
        Experiment.of(toy.config(place, model=model))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["int8", "int4", "nf4"])
def test_the_code_of_the_report_loads_base_and_adapter_as_the_run_had_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(PACKAGES[name], reason=f"{PACKAGES[name]} is not installed")
    toy.model(tmp_path / "model", hidden_size=64, intermediate_size=128)  # rows of whole blocks of nf4
    toy.data(tmp_path / "data.tsv", rows=40)
    group = {"quantization_group_size": 16} if name == "int4" else {}
    model = {"name": str(tmp_path / "model"), "quantization": name, **group}
    run = splitfl.run(toy.table(tmp_path, model=model), out=tmp_path)
    monkeypatch.chdir(run.folder.parent)
    loaded: dict[str, Any] = {}
    exec(loading_code(read_run(run.folder)) or "", loaded)
    held_out = list(Experiment.of(load(run.folder / "config.json")).held_out())
    with torch.no_grad():
        losses = [loaded["model"].eval()(**one.inputs, labels=one.labels).loss.item() for one in held_out]
    # bitsandbytes evaluates with scales in bfloat16 on CPUs that multiply in it.
    assert losses == pytest.approx([run.metrics["eval_loss"][-1]], rel=5e-3 if name == "nf4" else 1e-5)
