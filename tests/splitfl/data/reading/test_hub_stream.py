"""Rows that the library datasets streams, from folders in the layouts of the hub and of `save_to_disk`."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.reading.hub_stream import text_stream
from splitfl.data.reading.text_pieces import TextSource, pieces_of

datasets: Any = pytest.importorskip(
    "datasets", reason="datasets is not installed: pip install 'splitfl[data]'"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set as its repository on the hub has it: compressed lines of JSON in a folder `data`."""
    rows = [{"text": f"text {n}\n", "url": f"u{n}", "group": f"g{n % 2}"} for n in range(7)]
    rows.insert(3, {"text": " \n", "url": "blank", "group": "g0"})
    for name, some in (("train", rows), ("validation", rows[:2])):
        path = tmp_path / "texts" / "data" / f"{name}-00000-of-00001.jsonl.gz"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in some).encode()))
    return tmp_path / "texts"


def config(**settings: Any) -> TaskConfig:
    """Settings that ignore the column of addresses."""
    return TaskConfig(name="corpus", **{"ignore_columns": ("url",), **settings})


def read(source: TextSource) -> list[tuple[str, str, bool | None]]:
    """Text, group and part of each document."""
    return [
        ("".join(piece.text for piece in pieces_of(document)), document.group, document.is_held_out)
        for document in source.documents()
    ]


def test_rows_are_documents_in_the_data_sets_order_and_blank_ones_are_not(folder: Path) -> None:
    source = text_stream(str(folder), config())
    train = [(f"text {n}\n", f"g{n % 2}", False) for n in range(7)]
    held_out = [(f"text {n}\n", f"g{n % 2}", True) for n in range(2)]
    assert read(source) == train + held_out
    assert read(source) == train + held_out  # a second pass has the same rows


def test_rows_are_streamed_and_not_copied_into_the_librarys_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "arrow")
    read(text_stream(str(folder), config()))
    assert not list(tmp_path.glob("arrow/**/*.arrow"))


def test_a_limit_ends_the_stream(folder: Path) -> None:
    assert [text for text, *_ in read(text_stream(str(folder), config(limit=2, eval_limit=1)))] == [
        "text 0\n",
        "text 1\n",
        "text 0\n",
    ]


def test_another_version_is_one_of_other_rows(folder: Path) -> None:
    before = text_stream(str(folder), config()).version
    assert text_stream(str(folder), config()).version == before
    assert text_stream(str(folder), config(limit=2)).version != before
    path = next(folder.glob("data/train*"))
    path.write_bytes(gzip.compress(b'{"text": "other"}\n'))
    assert text_stream(str(folder), config()).version != before


def test_a_saved_data_set_is_read_row_by_row(tmp_path: Path) -> None:
    for name, texts in (("saved", ["one", None, "two"]), ("numbers", [5])):
        table = datasets.table.InMemoryTable.from_pydict({"text": texts})
        datasets.Dataset(table, fingerprint=name).save_to_disk(tmp_path / name)
    with pytest.raises(DataError, match=r"train, row 1: the text must be a string, got 5"):
        read(text_stream(str(tmp_path / "numbers"), config()))
    assert read(text_stream(str(tmp_path / "saved"), config())) == [("one", "", None), ("two", "", None)]


def test_columns_and_rows_that_are_no_texts_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match=r"train has the column 'url', which is not read"):
        read(text_stream(str(folder), TaskConfig(name="corpus")))
    with pytest.raises(ConfigError, match=r"task.bad_rows must be 'refuse' .* got 'skip'"):
        text_stream(str(folder), config(bad_rows="skip"))


def test_a_stream_that_breaks_off_is_refused(folder: Path) -> None:
    (path,) = folder.glob("data/train*")
    path.with_name("train-00001-of-00002.jsonl.gz").write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"^cannot read hf:.* train: "):
        read(text_stream(str(folder), config()))


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot get the data set"):
        text_stream(str(tmp_path), config())
