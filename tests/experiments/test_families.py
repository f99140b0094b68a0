"""Every family of models goes through every command: plan, auto, comparison, run, export and eval."""

import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from experiments import presets
from experiments.cli.main import main
from experiments.report.story import loading_code
from splitfl.comparison.entrants import Entrant, enter
from splitfl.config import RunConfig
from splitfl.evaluation.predictions import predict
from splitfl.models.families import (
    CAUSAL_LM,
    FAMILIES,
    IMAGE_CLASSIFICATION,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
)
from splitfl.run_folder.read import read_run
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, load
from tests.splitfl import shown, tiny, toy
from tests.splitfl.adapters.kinds import MOST

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

CASES = [(model_type, kind) for model_type, family in FAMILIES.items() for kind in family.kinds]
AUTO = ('auto.budget="bytes"', "auto.limit=1e9", "auto.cuts=[1,2]")
SHORT = {"clients": 2, "rounds": 1, "local_steps": 1}


def settings(folder: Path, model_type: str, kind: str) -> RunConfig:
    """A short run of a tiny model of this family."""
    if model_type == "small_net":
        return shown.config(folder, shown.SMALL_NET, federation=SHORT)
    if model_type == "resnet":
        return shown.config(folder, shown.RESNET, federation=SHORT)
    if kind == IMAGE_CLASSIFICATION:
        name = str(tiny.save(folder / model_type, model_type, kind, num_labels=4))
        lora = {"head": {"kind": "lora"}, "body": {"kind": "lora"}}
        return shown.config(folder, shown.SMALL_NET, model={"name": name}, adapter=lora, federation=SHORT)
    if kind == SEQ2SEQ_LM:
        toy.model(folder / "model", model_type, kind)
        task = {"name": "seq2seq", "data": str(toy.prompts(folder / "data.jsonl", 40))}
        return toy.config(folder, task=task, federation=SHORT | {"partition": "iid"})
    is_lm = kind == CAUSAL_LM
    toy.model(folder / "model", model_type, kind, is_base=not is_lm)
    toy.data(folder / "data.tsv", 40, labelled=not is_lm)
    tables: dict[str, Any] = {"federation": SHORT | ({"partition": "iid"} if is_lm else {})}
    tables |= {"task": {"name": "lm"}} if is_lm else {}
    tables |= {"model": {"attention": tiny.attention_of(model_type)}}
    return toy.config(folder, **tables)


def said(*words: str) -> Any:
    """What a command says as JSON."""
    result = CliRunner().invoke(main, [*words, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "kind"), CASES)
def test_a_family_goes_through_every_command(model_type: str, kind: str, tmp_path: Path) -> None:
    preset, runs = tmp_path / "toy.json", tmp_path / "runs"
    preset.write_text(json.dumps(as_dict(settings(tmp_path, model_type, kind))))
    plan = said("plan", str(preset))
    assert not plan["excluded"]
    (planned,) = plan["planned"].values()
    auto = said("plan", str(preset), *(word for one in AUTO for word in ("--set", one)))
    assert not auto["excluded"]
    entrant = enter(presets.tables(str(preset))[1], [], "sfl-v2", [], [], 1)
    assert isinstance(entrant, Entrant), entrant
    summary = said("run", str(preset), "--out", str(runs))
    assert summary["bytes_up"] == planned["bytes_up"]
    measured = said("eval", summary["folder"])
    assert math.isclose(measured["eval_loss"], summary["final"]["eval_loss"], rel_tol=1e-5)


@pytest.mark.slow
def test_a_plan_knows_hidden_states_that_are_wider_than_the_weights(tmp_path: Path) -> None:
    preset = tmp_path / "toy.json"
    preset.write_text(json.dumps(as_dict(settings(tmp_path, "mamba", CAUSAL_LM))))
    narrow = ("--set", "model.dtype='bfloat16'")
    (planned,) = said("plan", str(preset), *narrow)["planned"].values()
    summary = said("run", str(preset), "--out", str(tmp_path / "runs"), *narrow)
    assert summary["bytes_up"] == planned["bytes_up"]


@pytest.mark.slow
@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text"])
def test_scaled_embeddings_are_compared(model_type: str, tmp_path: Path) -> None:
    preset = tmp_path / "toy.json"
    preset.write_text(json.dumps(as_dict(settings(tmp_path, model_type, CAUSAL_LM))))
    words = ("--methods", "sfl-v2", "--preset", str(preset), "--seeds", "1", "--max-rounds", "1")
    assert said("compare", *words, "--out", str(tmp_path / "runs"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [
        ("ia3", "lora"),
        ("ia3", "ia3"),
        ("lokr", "dora"),
        ("lora", "ia3"),
        ("ia3", "vera"),
    ],
)
def test_kinds_of_two_sides_beside_a_new_classifier_are_measured_again(
    kinds: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By splitfl, and by the lines of code that the report gives to load it, merged."""
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv", 40)
    table = toy.table(tmp_path, federation=SHORT)
    ranks = [{"rank": MOST[kind]} if kind in MOST else {} for kind in kinds]
    table["adapter"] = {
        side: {"kind": kind, **rank} for side, kind, rank in zip(("head", "body"), kinds, ranks, strict=True)
    }
    preset = tmp_path / "toy.json"
    preset.write_text(json.dumps(table))
    summary = said("run", str(preset), "--out", str(tmp_path / "runs"))
    measured = said("eval", summary["folder"])
    assert math.isclose(measured["eval_loss"], summary["final"]["eval_loss"], rel_tol=1e-5)
    folder, loaded = Path(summary["folder"]), dict[str, Any]()
    monkeypatch.chdir(folder.parent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # peft's, of a model that is modified a second time
        exec(loading_code(read_run(folder)) or "", loaded)
    held_out = Experiment.of(load(folder / "config.json")).held_out()
    again = predict(loaded["model"].eval(), held_out, torch.device("cpu")).scores()
    assert math.isclose(again["eval_loss"], summary["final"]["eval_loss"], rel_tol=1e-5)


@pytest.mark.parametrize("model_type", ["bert", pytest.param("roberta", marks=pytest.mark.slow)])
def test_a_classifier_for_other_labels_is_made_new_where_the_settings_say_so(
    model_type: str, tmp_path: Path
) -> None:
    toy.model(tmp_path / "model", model_type)
    tiny.save(tmp_path / "model", model_type, SEQUENCE_CLASSIFICATION)  # for five labels
    toy.data(tmp_path / "data.tsv", 40)  # of two
    preset, runs = tmp_path / "toy.json", str(tmp_path / "runs")
    preset.write_text(json.dumps(toy.table(tmp_path, federation=SHORT)))
    refused = CliRunner().invoke(main, ["run", str(preset), "--out", runs])
    assert refused.exit_code == 2
    assert "set model.new_classifier to true" in refused.stderr
    summary = said("run", str(preset), "--out", runs, "--set", "model.new_classifier=true")
    measured = said("eval", summary["folder"])
    assert math.isclose(measured["eval_loss"], summary["final"]["eval_loss"], rel_tol=1e-5)
    report = (Path(summary["folder"]) / "report.html").read_text()
    assert "num_labels=2, ignore_mismatched_sizes=True" in report
