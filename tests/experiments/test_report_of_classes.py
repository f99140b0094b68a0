"""A run's report has a row a class and a confusion matrix; a comparison judges by the metric of its task."""

from pathlib import Path

import pytest

import splitfl
from experiments.report import write_report
from experiments.report.classes import class_rows, confusion
from splitfl.run_folder.read import RunRecord, read_run
from tests.splitfl import toy
from tests.splitfl.methods.test_label_kinds import write


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> RunRecord:
    folder = tmp_path_factory.mktemp("classes")
    toy.model(folder / "model", is_base=True)
    data = write(folder / "data.jsonl", "classification")
    data.write_text(data.read_text().replace("c1", "$a_{b<i>"))
    task = {"name": "classification", "data": str(data)}
    return splitfl.run(toy.table(folder, task=task, federation={"partition": "iid"}), out=folder)


@pytest.mark.slow
def test_the_last_rounds_confusion_matrix_is_kept(finished: RunRecord) -> None:
    counts, final = confusion(finished), finished.summary.final
    assert counts is not None
    assert counts.trace() / counts.sum() == pytest.approx(final["accuracy"])
    assert [bool(row.confusion) for row in finished.events.rounds] == [False, True]
    assert {"f1", "mcc", "macro_accuracy"} < set(final)


@pytest.mark.slow
def test_the_report_shows_every_class_and_the_matrix(finished: RunRecord) -> None:
    page = write_report(finished.folder).read_text(encoding="utf-8")
    assert [name for name, _ in class_rows(finished)] == ["$a_{b<i>", "c0", "c2"]
    assert "Confusion matrix" in page
    assert "$a_{b&lt;i&gt;" in page
    assert "<i>" not in page
    assert "Held-out macro F1" in page
    assert "Held-out Matthews correlation" in page


@pytest.mark.slow
def test_a_regression_is_judged_by_its_correlation(tmp_path: Path) -> None:
    toy.model(tmp_path / "model", is_base=True)
    data = write(tmp_path / "data.jsonl", "regression")
    settings = toy.table(
        tmp_path, task={"name": "regression", "data": str(data)}, federation={"partition": "iid"}
    )
    run = splitfl.run(settings, out=tmp_path)
    page = write_report(run.folder).read_text(encoding="utf-8")
    assert "Pearson correlation by rounds" in page
    assert "Confusion matrix" not in page
    assert read_run(run.folder).events.rounds[-1].pearson == run.summary.final["pearson"]
