import re
from collections.abc import Callable
from pathlib import Path

import pytest

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.forms import LABELLED, PLAIN
from splitfl.data.rows import Tally, read_rows

Write = Callable[[str, str | bytes], Path]
NAMED = {"text_column": "review", "label_column": "sentiment"}
HEADED = (
    "review,sentiment\na fine long film,pos\nanother one here,neg\na third one here,pos\none more film,neg\n"
)


def _read(path: Path, *, labelled: bool = True, **settings: object) -> list[tuple[str, str]]:
    config = TaskConfig(**settings)  # type: ignore[arg-type]
    rows = read_rows(path, config, LABELLED if labelled else PLAIN, Tally("refuse")).rows
    return [(row.text, row.label) for row in rows]


@pytest.mark.parametrize(
    ("name", "content", "settings"),
    [
        ("a.csv", HEADED.replace("review", "Text").replace("sentiment", "LABEL"), {}),
        ("a.csv", HEADED.replace("review", "text").replace("sentiment", "labels"), {}),
        ("a.csv", HEADED, NAMED),
        ("a.CSV", HEADED, NAMED),
        ("a.csv", HEADED.split("\n", 1)[1], {}),
        ("a.csv", HEADED.split("\n", 1)[1], {"header": "none"}),
        ("a.tsv", "pos\ta fine long film\nneg\tanother one here\npos\ta third one here\nneg\tone more film\n",
         {"text_column": "2", "label_column": "1"}),
        ("a.tsv", HEADED.split("\n", 1)[1].replace(",", "\t").replace("\n", "\r"), {}),
        ("a.jsonl", "".join(f'{{"Text": "{line.partition(",")[0]}", "Labels": "{line.partition(",")[2]}"}}\n'
                            for line in HEADED.splitlines()[1:]), {}),
    ],
)  # fmt: skip
def test_columns_are_found_by_usual_names_by_settings_and_by_number(
    write: Write, name: str, content: str, settings: dict[str, str]
) -> None:
    assert _read(write(name, content), **settings) == [
        ("a fine long film", "pos"),
        ("another one here", "neg"),
        ("a third one here", "pos"),
        ("one more film", "neg"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.csv",
            "text,label,mood\na,x,y\n",
            "the column 'mood', which is not read. Put it into task.ignore_c",
        ),
        ("a.csv", "text,sentence,label\na,b,x\n", "columns 'text' and 'sentence': say in task.text_column"),
        ("a.csv", "text,Text,label\na,b,x\n", "has two columns named 'Text'"),
        (
            "a.csv",
            "prompt,completion,label\na,b,x\n",
            "no column text or sentence; it has prompt, completion",
        ),
        (
            "a.jsonl",
            '{"messages": [{"role": "user"}]}\n',
            "column 'messages', which is not read (take task.name = 'sft' for chats",
        ),
        (
            "a.jsonl",
            '{"text": "a", "label": "x", "premise": "b"}\n',
            "the columns 'text' and 'premise': say in task.text_column",
        ),
        ("a.jsonl", '{"text": "a", "label": ["x", "y"]}\n', "the label is a list, ['x', 'y']: a text has"),
        ("a.csv", HEADED, "'review' and 'sentiment' look like names of columns. If they are, set task.text_"),
    ],
)
def test_a_column_that_is_not_read_is_refused_by_name(
    write: Write, name: str, content: str, message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        _read(write(name, content))


def test_a_setting_can_leave_out_a_column(write: Write) -> None:
    path = write("a.csv", "sentence,sentence2,label,id\na,b,x,1\n")
    assert _read(path, ignore_columns=("Sentence2", "id")) == [("a", "x")]
    part = read_rows(path, TaskConfig(ignore_columns=("sentence2", "id")), LABELLED, Tally("refuse"))
    assert part.columns == "text from column 'sentence', label from column 'label'; 'sentence2', 'id' ignored"


def test_a_language_model_refuses_labels_unless_they_are_ignored(write: Write) -> None:
    path = write("a.csv", "text,label\na b c,x\n")
    with pytest.raises(DataError, match="has the column 'label', which a language model does not read"):
        _read(path, labelled=False)
    assert _read(path, labelled=False, ignore_columns=("label",)) == [("a b c", "")]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_column": "body"}, "has no column 'body' (task.text_column); it has text, label"),
        ({"label_column": "3"}, "has no column '3' (task.label_column); it has text, label"),
    ],
)
def test_a_column_that_a_setting_names_must_be_there(
    write: Write, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        _read(write("a.csv", "text,label\na,x\nb,y\n"), **settings)


def test_a_named_column_needs_a_header(write: Write) -> None:
    with pytest.raises(DataError, match=r"has no column 'body': its first row names no column"):
        _read(write("a.csv", "a fine film,x\n"), text_column="body")


def test_a_first_sample_that_looks_like_a_header_is_one_where_the_settings_say_so(write: Write) -> None:
    assert _read(write("a.csv", HEADED), header="none")[0] == ("review", "sentiment")
    alone = write("b.csv", "review\na fine long film\nanother one here\n")
    with pytest.raises(DataError, match="'review' look like names of columns"):
        _read(alone, labelled=False)


def test_a_csv_field_may_be_longer_than_the_library_s_limit(write: Write) -> None:
    assert len(_read(write("a.csv", f"text,label\n{'a ' * 100_000},x\n"))[0][0]) == 199_999


def test_the_first_line_of_a_malformed_file_is_counted(write: Write) -> None:
    tally = Tally("skip")
    path = write("a.csv", '"x" y,1\na,1\nb,2\n')
    assert len(read_rows(path, TaskConfig(), LABELLED, tally).rows) == 2
    assert tally.skipped == 1
