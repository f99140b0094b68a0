import re
from collections.abc import Callable
from pathlib import Path

import pytest

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.reading.forms import LABELLED, PLAIN
from splitfl.data.reading.rows import Row, Tally, read_rows

Write = Callable[[str, str | bytes], Path]


def _read(path: Path, *, labelled: bool = True) -> list[Row]:
    return read_rows(path, TaskConfig(), LABELLED if labelled else PLAIN, Tally("refuse")).rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", "good film\t1\nbad film\t0\n"),
        ("a.TSV", "Sentence\tLabel\ngood film\t1\nbad film\t0\n"),
        ("a.tsv", "\ufefflabel\tid\ttext\r\n1\t7\tgood film\r\n\r\n0\t8\t bad film"),
        ("a.csv", "good film,1\nbad film,0\n"),
        ("a.csv", 'label,text\n1,"good film"\n\n0,"bad film"\n'),
        ("a.csv", 'label;text\n1;"good film"\n0;"bad film"\n'),
        ("a.csv", '"text"\t"label"\n"good film"\t1\nbad film\t0\n'),
        ("a.jsonl", '{"text": "good film", "label": 1}\n\n{"sentence": "bad film", "label": "0"}\n'),
        ("a.json", '{"text": "good film", "label": 1}\n{"sentence": "bad film", "label": "0"}\n'),
        ("a.json", '[{"text": "good film", "label": 1, "id": null}, {"text": "bad film", "label": 0}]'),
    ],
)
def test_every_format_gives_the_same_rows(write: Write, name: str, content: str) -> None:
    rows = _read(write(name, content))
    assert [(row.text, row.label) for row in rows] == [("good film", "1"), ("bad film", "0")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.txt", "one line\n\n  \nanother\u2028line\r\n"),
        ("a.tsv", "one line\nanother\u2028line\n"),
        ("a.csv", "text\none line\nanother\u2028line\n"),
        ("a.jsonl", '{"text": "one line"}\n{"text": "another\\u2028line"}'),
        ("a.json", '[{"text": "one line"}, {"text": "another\\u2028line"}]'),
    ],
)
def test_text_alone_needs_no_labels(write: Write, name: str, content: str) -> None:
    rows = _read(write(name, content), labelled=False)
    assert [row.text for row in rows] == ["one line", "another\u2028line"]
    assert {row.label for row in rows} == {""}


def test_quotes_mean_something_in_csv_and_nothing_in_tsv(write: Write) -> None:
    assert _read(write("a.csv", '"a ""b"",\nc",x\nd,y\n'))[0].text == 'a "b",\nc'
    assert _read(write("a.tsv", '"a ""b"\tx\nd\ty\n'))[0].text == '"a ""b"'


def test_a_group_column_assigns_rows_to_owners(write: Write) -> None:
    rows = _read(write("a.csv", "text,label,group\na,x,ann\nb,y,bob\n"))
    assert [row.group for row in rows] == ["ann", "bob"]


@pytest.mark.parametrize(
    ("name", "content", "message", "kept"),
    [
        ("a.tsv", "a\t1\nb\n", "line 2: has 1 columns instead of 2", 1),
        ("a.tsv", "a\t1\nb\t0\tc\n", "line 2: has 3 columns instead of 2", 1),
        ("a.tsv", "text\tlabel\na\t1\n\n \t0\n", "line 4: the text is missing or empty", 1),
        ("a.tsv", "a\t1\nb\t\n", "line 2: the label is missing or empty", 1),
        ("a.csv", 'a,1\n"b\nc",0,2\n', "line 2: has 3 columns instead of 2", 1),
        ("a.csv", 'a,1\n"b" c,0\n', "line 2: not CSV: ',' expected after '\"'", 1),
        ("a.csv", 'a,1\n"b,0\n', "line 2: not CSV: unexpected end of data", 1),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": ', "line 2: not JSON: Expecting value", 1),
        ("a.jsonl", "[1, 2]", "line 1: must be a JSON object, got list", 0),
        ("a.jsonl", '{"text": 3, "label": 1}', "line 1: the text must be a string, got 3", 0),
        ("a.jsonl", '{"text": "a", "label": 1.5}', "line 1: the label must be a string, got 1.5", 0),
        ("a.jsonl", '{"text": "a"}', "line 1: the label is missing or empty", 0),
        (
            "a.jsonl",
            '{"text": "a", "label": 1, "label": 2}',
            "line 1: not JSON: the key 'label' occurs twice",
            0,
        ),
        ("a.csv", '"a","[""b"", ""c""]"', "line 1: the label is a list", 0),
        ("a.csv", "\"a\",\"['b', 'c']\"", "line 1: a list in a cell must be JSON, with double quotes", 0),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}', "line 1: it holds half a surrogate pair", 0),
        ("a.json", '[{"text": "a", "label": 1}, 5]', "item 2: must be a JSON object, got int", 1),
    ],
)
def test_a_malformed_row_is_refused_by_file_and_line_or_skipped_and_counted(
    write: Write, name: str, content: str, message: str, kept: int
) -> None:
    path = write(name, content)
    with pytest.raises(DataError, match=re.escape(f"{path}, {message}")) as refusal:
        _read(path)
    assert str(refusal.value).endswith("(task.bad_rows = 'skip' leaves such rows out)")
    tally = Tally("skip")
    if kept:
        assert [row.text for row in read_rows(path, TaskConfig(), LABELLED, tally).rows] == ["a"] * kept
    else:
        with pytest.raises(DataError, match="holds no samples but 1 malformed rows"):
            read_rows(path, TaskConfig(), LABELLED, tally)
    assert tally.skipped == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "", "{} holds no samples"),
        ("a.csv", "text,label\n", "{} holds no samples"),
        ("a.json", "", "{} holds no samples"),
        ("a.json", "[]", "{} holds no samples"),
        ("a.tsv", "text\tid\na\t1\n", "{} has no column label or labels; it has text, id"),
        ("a.tsv", "review\tlabel\na\t1\n", "{} has no column text or sentence; it has review, label"),
        (
            "a.tsv",
            "a\nb\n",
            "{}, line 1: 1 column between tabs and no header. Name the columns in a first row (text, label)",
        ),
        ("a.csv", "a;1\nb;0\n", "{}, line 1: 1 column between commas and no header."),
        ("a.json", '{"text": "a"}', "{} must be a JSON list of objects, got dict"),
        ("a.json", "[1,", "{} is not JSON: "),
        ("a.txt", "a line\n", "{} is plain text and has no labels; give .tsv, .csv, .jsonl or .json"),
        ("a.parquet", "PAR1", "{} is of an unknown kind; data files end in .tsv, .csv, .jsonl, .json, .txt"),
        ("a.tsv", b"a\t1\nb\xff\t0\n", "{}, line 2: not UTF-8 text; convert the file"),
    ],
)
def test_a_file_that_cannot_serve_is_refused_by_name(
    write: Write, name: str, content: str | bytes, message: str
) -> None:
    path = write(name, content)
    with pytest.raises(DataError, match=re.escape(message.format(path))):
        _read(path)


def test_a_file_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot read .*gone.tsv: No such file or directory"):
        _read(tmp_path / "gone.tsv")
