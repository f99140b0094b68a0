"""What a run exports is right by name for whoever loads it with transformers alone."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from splitfl.data.reading.files import load_files
from splitfl.data.reading.forms import LABELLED
from splitfl.setup.experiment_file import from_dict
from tests.splitfl import toy

NAMED = {"0": "wire", "1": "air"}
"""The other way round than by name."""

LOAD = """
import json, sys
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, pipeline
base, folder, texts = sys.argv[1], sys.argv[2], json.loads(sys.stdin.read())
config = AutoConfig.from_pretrained(folder)
source = folder if base == folder else base
model = AutoModelForSequenceClassification.from_pretrained(source, config=config)
if base != folder:
    model = PeftModel.from_pretrained(model, folder).merge_and_unload()
tokenizer = AutoTokenizer.from_pretrained(base)
classify = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
print(json.dumps([found["label"] for found in classify(texts, truncation=True, max_length=16)]))
"""


def predicted(base: Path, folder: Path, texts: tuple[str, ...]) -> list[str]:
    """The names that a pipeline in a fresh process gives to these texts."""
    said = subprocess.run(
        [sys.executable, "-c", LOAD, str(base), str(folder)],
        input=json.dumps(texts), capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    found: list[str] = json.loads(said.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("kind", ["lora", pytest.param("full", marks=pytest.mark.slow)])
@pytest.mark.parametrize("is_named", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_a_pipeline_predicts_the_names_that_the_run_was_right_by(
    tmp_path: Path, kind: str, is_named: bool
) -> None:
    model = toy.model(tmp_path / "model", is_base=not is_named)
    toy.data(tmp_path / "data.tsv")
    if is_named:
        settings = json.loads((model / "config.json").read_text())
        settings |= {"id2label": NAMED, "label2id": {name: int(at) for at, name in NAMED.items()}}
        (model / "config.json").write_text(json.dumps(settings))
    adapter = {"head": {"kind": kind}, "body": {"kind": kind}}
    (tmp_path / "toy.json").write_text(json.dumps(toy.table(tmp_path, adapter=adapter)))
    result = CliRunner().invoke(
        main, ["run", str(tmp_path / "toy.json"), "--out", str(tmp_path / "runs"), "--json"]
    )
    assert result.exit_code == 0, result.output
    done = json.loads(result.stdout)
    run = Path(done["folder"])
    config = from_dict(json.loads((run / "config.json").read_text()))
    names = ("wire", "air") if is_named else ("air", "wire")
    assert config.task.labels == names
    folder, base = (run / "model", run / "model") if kind == "full" else (run / "adapter", model)
    stored = json.loads((folder / "config.json").read_text())
    assert stored["id2label"] == {str(at): name for at, name in enumerate(names)}
    assert stored["label2id"] == {name: at for at, name in enumerate(names)}
    held_out = load_files(tmp_path / "data.tsv", config.task, LABELLED).held_out
    assert held_out.labels is not None
    found = predicted(base, folder, held_out.texts)
    right = sum(name == names[at] for name, at in zip(found, held_out.labels, strict=True))
    assert right / len(found) == pytest.approx(done["final"]["accuracy"])


@pytest.mark.slow
def test_a_classifier_for_classes_of_other_names_ends_a_run_before_it_begins(tmp_path: Path) -> None:
    model = toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv")
    settings = json.loads((model / "config.json").read_text())
    settings |= {"id2label": {"0": "POSITIVE", "1": "NEGATIVE"}}
    (model / "config.json").write_text(json.dumps(settings))
    (tmp_path / "toy.json").write_text(json.dumps(toy.table(tmp_path)))
    words = ["run", str(tmp_path / "toy.json"), "--out", str(tmp_path / "runs")]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert "the checkpoint has a classifier for 'POSITIVE', 'NEGATIVE', in that order" in result.output
    assert not (tmp_path / "runs").exists()
    result = CliRunner().invoke(main, [*words, "--set", 'task.labels=["wire", "air"]'])
    assert result.exit_code == 0, result.output
