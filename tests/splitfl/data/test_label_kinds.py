"""Pairs of texts, numbers and several classes a text, from files to batches."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.classes import Numbering
from splitfl.data.examples import gather
from splitfl.data.loader import tokenizer
from splitfl.data.task import Task, load_evaluation, load_task
from splitfl.data.text_kinds import Pair
from splitfl.data.texts import Texts

Write = Callable[[str, str | bytes], Path]
SETS = ["a,b", "", "b", "c", "a,c", "c,b,a", " b , a ", "c"]


def loaded(path: Path, name: str, **settings: object) -> Task:
    return load_task(TaskConfig(name=name, data=str(path), **settings))  # type: ignore[arg-type]


def labels_of(task: Task) -> dict[str, list[float]]:
    """Every sample's label by its text, of both parts."""
    found: dict[str, list[float]] = {}
    for part in (task.train, task.held_out):
        assert part.labels is not None
        texts = part.texts  # type: ignore[union-attr]
        found |= {
            str(text): np.atleast_1d(label).tolist() for text, label in zip(texts, part.labels, strict=True)
        }
    return found


@pytest.mark.parametrize(
    "header", ["sentence1,sentence2,label", "premise,hypothesis,label", "Question1,Question2,LABEL"]
)
def test_two_texts_of_a_row_are_a_pair(header: str, write: Write) -> None:
    rows = "".join(f"one {n},two {n},{'yes' if n % 2 else 'no'}\n" for n in range(40))
    task = loaded(write("a.csv", f"{header}\n{rows}"), "classification")
    assert task.label_names == ("no", "yes")
    texts = {*task.train.texts, *task.held_out.texts}  # type: ignore[union-attr]
    assert texts == {Pair(f"one {n}", f"two {n}") for n in range(40)}


def test_a_pair_is_tokenised_as_the_tokenizer_does_with_types_where_they_are_read(
    word_folder: Path,
) -> None:
    encode = tokenizer(word_folder)
    pairs = [Pair("the server learns", "what each"), Pair("a link", "from hidden states and gradients")]
    examples = gather(pairs, [0, 1], ["", ""])
    for reads_types in (False, True):
        rows = Texts(examples, encode, kind="sequence-classification", max_length=6, reads_types=reads_types)
        batch = rows.collated(np.arange(2))
        expected = encode(
            [text.first for text in examples.texts],  # type: ignore[union-attr]
            [text.second for text in examples.texts],  # type: ignore[union-attr]
            truncation=True,
            max_length=6,
            padding="max_length",
            return_tensors="pt",
            return_token_type_ids=reads_types,
        )
        assert ("token_type_ids" in batch.inputs) == reads_types
        for name, tensor in batch.inputs.items():
            assert torch.equal(tensor, expected[name]), name
    assert rows.count.truncated_texts == 1


def test_numbers_are_labels_of_a_regression(write: Write) -> None:
    rows = "".join(f"text {n}\t{n / 4}\n" for n in range(40))
    task = loaded(write("a.tsv", f"text\tlabel\n{rows}"), "regression")
    assert labels_of(task) == {f"text {n}": [n / 4] for n in range(40)}
    assert (task.problem_type, task.num_labels, task.label_names) == ("regression", 1, ())
    assert task.train.labels is not None
    assert task.train.labels.dtype == np.float32


def test_a_label_that_is_no_number_is_refused(write: Write) -> None:
    for word in ("good", "nan", "true", "", "1e39"):
        with pytest.raises(DataError, match="line 3: the label must be a number, got"):
            loaded(write("a.tsv", f"text\tlabel\na b c\t1.5\nd e f\t{word}\n"), "regression")


def test_a_whole_number_beyond_any_float_is_refused(write: Write) -> None:
    path = write("a.jsonl", f'{{"text": "a", "label": 1{"0" * 400}}}\n')
    with pytest.raises(DataError, match="line 1: the label must be a number, got 1000"):
        loaded(path, "regression")


@pytest.mark.parametrize("label", ["[1, 0, 1]", '["a", "", "b"]', '"a,a"'])
def test_a_list_that_does_not_name_different_classes_is_refused(label: str, write: Write) -> None:
    path = write("a.jsonl", f'{{"text": "a", "label": {label}}}\n')
    with pytest.raises(DataError, match="line 1: the label must list different classes by their names, got"):
        loaded(path, "multi-label")


def test_classes_between_another_separator_are_refused_by_the_setting(write: Write) -> None:
    rows = "".join(f"text {n},{('a;b', 'b;a', 'a')[n % 3]}\n" for n in range(40))
    path = write("a.csv", f"text,label\n{rows}")
    with pytest.raises(DataError, match=r"is several classes in one: set task\.label_separator"):
        loaded(path, "multi-label")


def test_lists_in_cells_are_read_as_json_and_refused_as_python_prints_them(write: Write) -> None:
    rows = "".join(f'text {n},"[""a"", ""b""]"\n' for n in range(40))
    assert loaded(write("a.csv", f"text,label\n{rows}"), "multi-label").label_names == ("a", "b")
    rows = "".join(f"text {n},\"['a', 'b']\"\n" for n in range(40))
    with pytest.raises(DataError, match=r"line 2: a list in a cell must be JSON, with double quotes; got"):
        loaded(write("b.csv", f"text,label\n{rows}"), "multi-label")


def test_several_classes_are_a_row_of_zeros_and_ones(write: Write) -> None:
    rows = [f'{{"text": "text {n}", "label": "{SETS[n % 8]}"}}' for n in range(40)]
    task = loaded(write("a.jsonl", "\n".join(rows)), "multi-label")
    assert (task.problem_type, task.num_labels, task.label_names) == (
        "multi_label_classification",
        3,
        ("a", "b", "c"),
    )
    expected = {
        f"text {n}": [float(name in [word.strip() for word in SETS[n % 8].split(",")]) for name in "abc"]
        for n in range(40)
    }
    assert labels_of(task) == expected


def test_several_classes_may_be_a_list_or_have_another_separator(write: Write) -> None:
    listed = "\n".join(f'{{"text": "text {n}", "label": [1, "b"]}}' for n in range(40))
    assert loaded(write("a.jsonl", listed), "multi-label").label_names == ("1", "b")
    apart = "text\tlabel\n" + "".join(f"text {n}\ta, x|b\n" for n in range(40))
    task = loaded(write("a.tsv", apart), "multi-label", label_separator="|")
    assert task.label_names == ("a, x", "b")


def test_a_class_that_training_lacks_is_malformed(write: Write) -> None:
    folder = write("train.tsv", "text\tlabel\n" + "".join(f"t {n}\ta,b\n" for n in range(9))).parent
    write("dev.tsv", "text\tlabel\nt 10\ta,d\n")
    with pytest.raises(DataError, match=re.escape("label 'd' is none of the training data's: a, b")):
        loaded(folder, "multi-label")


def test_classes_of_several_are_renumbered_by_column(write: Write) -> None:
    rows = "text\tlabel\n" + "".join(f"t {n}\t{SETS[n % 8] or 'c'}\n" for n in range(40))
    task = loaded(write("a.tsv", rows), "multi-label")
    other = Numbering(names=("c", "b", "a"), numbers={"a": 2, "b": 1, "c": 0}, decided_by="the test")
    moved = task.corpus.renumbered(other)
    assert task.train.labels is not None
    assert moved.train.labels is not None
    assert np.array_equal(moved.train.labels, task.train.labels[:, ::-1])


def test_an_evaluation_file_of_numbers_is_read_whole(write: Write) -> None:
    path = write("a.tsv", "text\tlabel\n" + "".join(f"t {n}\t{n}\n" for n in range(40)))
    assert len(load_evaluation(TaskConfig(name="regression", data=str(path))).held_out) == 40
