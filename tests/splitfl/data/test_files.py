import re
from collections.abc import Callable
from pathlib import Path

import pytest

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.files import load_files
from splitfl.data.forms import LABELLED, PLAIN

Write = Callable[[str, str | bytes], Path]


def _table(count: int, first: int = 0) -> str:
    return "".join(f"sentence {i}\t{('no', 'yes')[i % 2]}\n" for i in range(first, first + count))


def test_a_folder_keeps_its_own_split_and_every_row(write: Write, tmp_path: Path) -> None:
    write("train.tsv", _table(30) + "sentence 0\tno\n")
    write("dev.csv", "text,label\na,no\nb,yes\n")
    write("test.tsv", _table(5))
    write("README.md", "not data")
    corpus = load_files(tmp_path, TaskConfig(), LABELLED)
    assert (len(corpus.train), len(corpus.held_out)) == (31, 2)
    assert corpus.label_names == ("no", "yes")


def test_a_test_file_serves_where_there_is_no_dev_file(write: Write, tmp_path: Path) -> None:
    write("train.txt", "one line\nanother line\n")
    write("test.txt", "a third line\n")
    corpus = load_files(tmp_path, TaskConfig(), PLAIN)
    assert corpus.held_out.texts == ("a third line",)
    assert corpus.train.labels is None


def test_a_single_file_is_split_by_its_texts_in_any_order(write: Write) -> None:
    lines = _table(200).splitlines(keepends=True)
    one = load_files(write("a.tsv", "".join(lines)), TaskConfig(), LABELLED)
    other = load_files(write("b.tsv", "".join(reversed(lines))), TaskConfig(), LABELLED)
    assert one.held_out.texts == other.held_out.texts
    assert one.train.texts == other.train.texts
    assert len(one.train) + len(one.held_out) == 200


def test_labels_are_numbered_in_sorted_order_and_numbers_as_numbers(write: Write) -> None:
    rows = "".join(f"text {i}\t{i % 11}\n" for i in range(300))
    corpus = load_files(write("a.tsv", rows), TaskConfig(), LABELLED)
    assert corpus.label_names == tuple(str(i) for i in range(11))
    assert corpus.train.labels is not None
    assert all(
        int(t.split()[1]) % 11 == n for t, n in zip(corpus.train.texts, corpus.train.labels, strict=True)
    )


def test_skipped_rows_of_all_files_are_counted(write: Write, tmp_path: Path) -> None:
    write("train.tsv", _table(30) + "no label\n")
    write("dev.tsv", _table(4, first=100) + "no label\nof no class\tmaybe\n")
    corpus = load_files(tmp_path, TaskConfig(bad_rows="skip"), LABELLED)
    assert corpus.skipped_rows == 3
    assert (len(corpus.train), len(corpus.held_out)) == (30, 4)


def test_a_held_out_label_that_training_lacks_is_refused_by_line(write: Write, tmp_path: Path) -> None:
    write("train.tsv", _table(30))
    dev = write("dev.tsv", "a\tno\nb\tmaybe\n")
    message = f"{dev}, line 2: label 'maybe' is none of the training data's: no, yes"
    with pytest.raises(DataError, match=re.escape(message)):
        load_files(tmp_path, TaskConfig(), LABELLED)


def test_a_single_class_is_refused(write: Write) -> None:
    with pytest.raises(DataError, match=r"a.tsv has one label only, 'x'; classification needs two or more"):
        load_files(write("a.tsv", "one\tx\ntwo\tx\n"), TaskConfig(), LABELLED)


def test_too_few_rows_to_hold_any_out_are_refused_with_a_way_out(write: Write) -> None:
    with pytest.raises(DataError, match=r"a.tsv has 2 samples, too few to hold one in 10 out; add samples"):
        load_files(write("a.tsv", "first\tx\nsecond\ty\n"), TaskConfig(), LABELLED)


def test_a_folder_without_a_training_file_is_refused(write: Write, tmp_path: Path) -> None:
    write("dev.tsv", _table(4))
    with pytest.raises(DataError, match=r"has no training file; name one train.tsv \(or .csv, "):
        load_files(tmp_path, TaskConfig(), LABELLED)


def test_two_files_for_one_part_are_refused(write: Write, tmp_path: Path) -> None:
    write("train.tsv", _table(30))
    write("train.csv", "text,label\na,no\nb,yes\n")
    with pytest.raises(DataError, match=r"has more than one train file: train.csv, train.tsv; keep one"):
        load_files(tmp_path, TaskConfig(), LABELLED)
