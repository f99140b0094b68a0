from collections.abc import Callable
from pathlib import Path

from splitfl.config import TaskConfig
from splitfl.data.description import describe
from splitfl.data.loader import TokenCount
from splitfl.data.task import load_evaluation, load_task

Write = Callable[[str, str | bytes], Path]


def _rows(*labels: str, rows: int = 60) -> str:
    return "".join(f"a text number {i} of many,{labels[i % len(labels)]}\n" for i in range(rows))


def test_the_description_names_columns_samples_classes_and_truncation(write: Write) -> None:
    path = write("a.csv", "Text,Label,id\n" + _rows("1,7", "0,8", "1.0,9") + "malformed\n")
    task = load_task(TaskConfig(name="classification", data=str(path), bad_rows="skip"))
    counts = TokenCount(texts=54, tokens=1000, truncated_texts=3, truncated_tokens=125)
    found = describe(task, counts, 64)
    assert (
        found.lines[0] == f"{path}: 60 rows, text from column 'Text', label from column 'Label'; 'id' ignored"
    )
    assert found.lines[1] == f"{len(task.train)} samples to train on, {len(task.held_out)} held out"
    assert found.lines[2].startswith("3 classes, numbered by name: 0 (")
    assert found.lines[3] == "1,000 tokens in 54 texts"
    assert found.warnings == (
        f"1 malformed rows of {path} were skipped",
        "the classes '1' and '1.0' differ only in spelling",
        "3 of 54 texts are longer than task.max_length = 64: 125 of 1,000 tokens (12.5%) are not read",
    )


def test_a_class_without_a_training_sample_is_pointed_at(write: Write) -> None:
    labels = ("x", "\u200by", "z")
    data = str(write("a.csv", "text,label\n" + _rows("x", "\u200by")))
    task = load_task(TaskConfig(name="classification", data=data, labels=labels))
    found = describe(task, None, 64)
    assert "3 classes, numbered by task.labels: x (" in found.lines[2]
    assert "'\\u200by' (" in found.lines[2]
    assert found.warnings == ("no training sample is of class 'z'",)


def test_an_evaluation_states_its_number_of_samples(write: Write) -> None:
    config = TaskConfig(name="classification", data=str(write("a.csv", _rows("x", "y"))), labels=("x", "y"))
    assert describe(load_evaluation(config), None, 64).lines[1:] == (
        "60 samples to measure",
        "2 classes: x (30), y (30)",
    )


def test_packing_is_stated(write: Write) -> None:
    path = str(write("a.txt", "".join(f"text {i} of some words\n" for i in range(40))))
    count = TokenCount(texts=36, tokens=200, truncated_texts=0, truncated_tokens=0)
    said = {
        packing: describe(load_task(TaskConfig(name="lm", data=path, packing=packing)), count, 16).lines[-1]
        for packing in ("auto", "chunk", "truncate")
    }
    assert said == {
        "auto": "200 tokens in 36 texts, one after another in samples of 16",
        "chunk": "200 tokens in 36 texts, long ones cut into samples of 16",
        "truncate": "200 tokens in 36 texts",
    }
