import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.classes import (
    CheckpointClasses,
    near_twins,
    numbered_by_checkpoint,
    numbered_by_name,
    refuse_unlikely,
)
from splitfl.data.task import load_evaluation, load_task

Write = Callable[[str, str | bytes], Path]
MOODS = CheckpointClasses(names=("POSITIVE", "NEGATIVE"), is_trained=True)
UNNAMED = CheckpointClasses(names=("LABEL_0", "LABEL_1"), is_trained=True)
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _table(*labels: str, rows: int = 60) -> str:
    lines = [f"a text number {i} of many\t{labels[i % len(labels)]}\n" for i in range(rows)]
    return "text\tlabel\n" + "".join(lines)


def _of(*names: str, is_trained: bool) -> CheckpointClasses:
    return CheckpointClasses(names=names, is_trained=is_trained)


@pytest.mark.parametrize(
    ("labels", "checkpoint", "names", "numbers"),
    [
        (("NEGATIVE", "POSITIVE"), MOODS, ("POSITIVE", "NEGATIVE"), [1, 0]),
        (("POSITIVE",), MOODS, ("POSITIVE", "NEGATIVE"), [0]),
        (("0", "1"), MOODS, ("POSITIVE", "NEGATIVE"), [0, 1]),
        (("0", "1"), UNNAMED, ("0", "1"), [0, 1]),
        (("a", "b"), _of("b", "a", is_trained=False), ("b", "a"), [1, 0]),
    ],
)
def test_a_checkpoint_decides_the_numbers_of_the_classes_that_it_names(
    labels: tuple[str, ...], checkpoint: CheckpointClasses, names: tuple[str, ...], numbers: list[int]
) -> None:
    found = numbered_by_checkpoint(labels, checkpoint)
    assert found is not None
    assert found.names == names
    assert [found.numbers[label] for label in labels] == numbers


@pytest.mark.parametrize(
    ("labels", "checkpoint"),
    [
        (("neg", "pos"), UNNAMED),
        (("neg", "pos"), _of("LABEL_0", "LABEL_1", is_trained=False)),
        (("cat", "dog"), _of("tench", "goldfish", "shark", is_trained=False)),
        (("0", "1"), _of("tench", "goldfish", "shark", is_trained=False)),
    ],
)
def test_a_checkpoint_without_names_or_without_a_classifier_leaves_them_to_the_data(
    labels: tuple[str, ...], checkpoint: CheckpointClasses
) -> None:
    assert numbered_by_checkpoint(labels, checkpoint) is None


@pytest.mark.parametrize("labels", [("neg", "pos"), ("NEGATIVE", "POSITIVE", "NEUTRAL"), ("0", "1", "2")])
def test_a_classifier_for_classes_of_other_names_is_refused_by_name(labels: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"has a classifier for 'POSITIVE', 'NEGATIVE', in that order"):
        numbered_by_checkpoint(labels, MOODS)


def test_whole_numbers_are_numbered_as_numbers() -> None:
    assert numbered_by_name(["10", "9", "-1"]) == ("-1", "9", "10")
    assert numbered_by_name(["10", "9", "x"]) == ("10", "9", "x")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["x"] * 9, "has one label only, 'x'"),
        ([f"{i / 7:.2f}" for i in range(90)], "is a decimal number; classification needs names of classes"),
        (["0", "1", "0,1"] * 9, "the label '0,1' is several labels in one"),
        (["a;b", "b;c", "c;a"] * 9, "is several labels in one"),
        ([LETTERS[i % 26] * (1 + i // 26) for i in range(60)], "has 60 different labels in 60 rows"),
    ],
)
def test_labels_that_are_no_classes_are_refused(labels: list[str], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        refuse_unlikely("a.csv", Counter(labels))


@pytest.mark.parametrize(
    "labels",
    [["Arts, Beauty", "Toys"] * 4, ["1.0", "0.0"] * 4, ["a", "b", "c"], ["1", "2", "3", "4", "5"] * 2],
)
def test_labels_that_may_be_classes_are_not_refused(labels: list[str]) -> None:
    refuse_unlikely("a.csv", Counter(labels))


@pytest.mark.parametrize(
    "names",
    [
        ("1", "1.0"),
        ("pos", "POS"),
        ("caf\u00e9", "cafe\u0301"),
        ("neg", "\u200bneg"),
        ("a b", "a  b"),
        ("1", "01"),
        ("0", "-0"),
        ("1", "+1"),
    ],
)
def test_names_that_differ_only_in_spelling_are_pointed_at(names: tuple[str, str]) -> None:
    said = near_twins(("other", *names))
    assert said == [f"the classes {names[0]!a} and {names[1]!a} differ only in spelling"]


def test_a_missing_label_that_became_a_class_is_pointed_at() -> None:
    assert near_twins(("pos", "nan")) == ["the class 'nan' looks like a missing label"]
    assert near_twins(("pos", "neg", "1", "2")) == []


def test_settings_number_the_classes_and_refuse_others(write: Write) -> None:
    path = str(write("a.tsv", _table("neg", "pos")))
    task = load_task(TaskConfig(name="classification", data=path, labels=("pos", "neg")), MOODS)
    assert task.label_names == ("pos", "neg")
    missing = load_task(TaskConfig(name="classification", data=path, labels=("neu", "neg", "pos")))
    assert missing.train.labels is not None
    assert set(missing.train.labels.tolist()) == {1, 2}
    with pytest.raises(DataError, match=r"line 3: label 'pos' is none of this run's: neg, neu"):
        load_task(TaskConfig(name="classification", data=path, labels=("neg", "neu")))


def test_numbers_of_a_checkpoint_go_for_both_parts(write: Write) -> None:
    path = str(write("a.tsv", _table("NEGATIVE", "POSITIVE")))
    plain = load_task(TaskConfig(name="classification", data=path))
    task = load_task(TaskConfig(name="classification", data=path), MOODS)
    assert (plain.label_names, task.label_names) == (("NEGATIVE", "POSITIVE"), MOODS.names)
    for one, other in ((plain.train, task.train), (plain.held_out, task.held_out)):
        assert one.labels is not None
        assert other.labels is not None
        assert (one.labels == 1 - other.labels).all()


@pytest.mark.parametrize("labels", [("a",), ("a", "a"), ("a", "")])
def test_class_names_must_be_two_or_more_different_ones(labels: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"task.labels must be two or more different names, got"):
        TaskConfig(labels=labels)


def test_an_evaluation_file_is_read_whole_with_the_classes_of_the_run(write: Write) -> None:
    path = str(write("a.tsv", _table("neu", "pos", rows=40)))
    config = TaskConfig(name="classification", data=path, labels=("neg", "neu", "pos"), eval_limit=3)
    task = load_evaluation(config)
    assert (len(task.train), len(task.held_out)) == (0, 40)
    assert task.held_out.labels is not None
    assert set(task.held_out.labels.tolist()) == {1, 2}
    with pytest.raises(ConfigError, match=r"task.labels must name the classes of the run"):
        load_evaluation(TaskConfig(name="classification", data=path))
    with pytest.raises(DataError, match=r"label 'neu' is none of this run's: pos, x"):
        load_evaluation(TaskConfig(name="classification", data=path, labels=("pos", "x")))
