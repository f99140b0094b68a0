"""Split finetuning of pairs, numbers and several classes is plain finetuning, and measured as such."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from scipy.stats import pearsonr, spearmanr  # type: ignore[import-untyped]
from transformers import AutoModelForSequenceClassification

import splitfl
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict, load
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.methods.plain import Plain

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

TASKS = ("classification", "regression", "multi-label")


def write(path: Path, task: str, rows: int = 80) -> Path:
    """Rows of two texts and a label of this task's kind."""
    lines = []
    for row in range(rows):
        first, second = toy.said(row, 1 + row % 6), toy.said(row + 5, 1 + row % 4)
        label: object = {"classification": f"c{row % 3}", "regression": row % 7 / 2}.get(task, [])
        if task == "multi-label":
            label = [name for at, name in enumerate("abc") if row % 7 >> at & 1]
        lines.append(json.dumps({"sentence1": first, "sentence2": second, "label": label}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    toy.model(folder / "model", "bert", is_base=True)
    toy.model(folder / "llama", "llama", is_base=True)
    return folder


def table(place: Path, task: str, model: str = "model", **tables: dict[str, Any]) -> dict[str, Any]:
    data = write(place / f"{task}.jsonl", task)
    federation = {"partition": "iid", **tables.pop("federation", {})}
    return toy.table(
        place,
        model={"name": str(place / model)},
        task={"name": task, "data": str(data)},
        federation=federation,
        **tables,
    )


def experiment(place: Path, task: str, model: str = "model", **tables: dict[str, Any]) -> Experiment:
    return Experiment.of(from_dict(table(place, task, model, **tables)))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["model", "llama"])
@pytest.mark.parametrize("task", TASKS)
def test_split_finetuning_is_plain_finetuning(task: str, model: str, place: Path, tmp_path: Path) -> None:
    site = experiment(place, task, model, federation={"clients": 1, "aggregator": "mean"})
    plain, batches = Plain(site), site.batches(0)
    played = play(site, tmp_path)
    assert played.losses == [plain.step(batches.batch(step)) for step in range(6)]
    assert plain.differs(played.trained) == []


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS[1:])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_from_every_kind_of_label(
    method: str, task: str, place: Path, tmp_path: Path
) -> None:
    site = experiment(place, task, method={"name": method})
    played = play(site, tmp_path)
    assert len(played.ends) == 2
    assert np.isfinite(played.losses).all()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_run_and_stock_peft_measure_the_same(task: str, place: Path, tmp_path: Path) -> None:
    settings = table(place, task)
    result = splitfl.run(settings, out=tmp_path)
    site = Experiment.of(load(result.folder / "config.json"))
    again = measure_adapter(site, result.folder / "adapter")
    final = {name: result.summary.final[name] for name in again}
    assert final == pytest.approx(again, abs=1e-5)
    names = {
        "classification": {"accuracy", "macro_accuracy", "f1", "mcc"},
        "regression": {"pearson", "spearman"},
        "multi-label": {"micro_f1", "f1"},
    }
    assert set(again) == names[task] | {"eval_loss"}


@pytest.mark.slow
def test_the_exported_configuration_names_the_predictions_of_the_head(place: Path, tmp_path: Path) -> None:
    result = splitfl.run(table(place, "regression"), out=tmp_path)
    config = json.loads((result.folder / "adapter" / "config.json").read_text())
    assert config["problem_type"] == "regression"
    model = AutoModelForSequenceClassification.from_pretrained(place / "model", num_labels=1)
    model = PeftModel.from_pretrained(model, result.folder / "adapter").eval()
    site = Experiment.of(load(result.folder / "config.json"))
    labels, predicted = [], []
    for batch in site.held_out():
        with torch.no_grad():
            predicted += model(**batch.inputs).logits[:, 0].tolist()
        labels += batch.labels.tolist()
    final = result.summary.final
    assert final["pearson"] == pytest.approx(pearsonr(labels, predicted).statistic, abs=1e-4)
    assert final["spearman"] == pytest.approx(spearmanr(labels, predicted).statistic, abs=1e-4)
    assert final["eval_loss"] == pytest.approx(np.square(np.subtract(labels, predicted)).mean(), abs=1e-5)
