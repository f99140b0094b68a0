"""Text files: which of a folder are read, what is held out, and what is refused before it is read."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.reading.text_files import standard_library, text_files
from splitfl.data.reading.text_pieces import TextSource, pieces_of

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files and a folder with a compressed one, hidden ones beside them."""
    for name, content in (
        ("b.txt", b"b\n"),
        ("a.rst", b"a\n"),
        ("c/deep/d.txt.gz", gzip.compress(b"d\n")),
        (".hidden/e.txt", b"\xff"),
        (".f.txt", b"\xff"),
    ):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "texts"


def read(source: TextSource) -> list[tuple[str, str, bool | None]]:
    """Text, group and part of each document."""
    return [
        ("".join(piece.text for piece in pieces_of(document)), document.group, document.is_held_out)
        for document in source.documents()
    ]


def test_a_folder_is_read_in_the_order_of_its_names_whatever_their_depth(folder: Path) -> None:
    assert read(text_files(folder, TaskConfig(name="corpus"))) == [
        ("a\n", "a.rst", None),
        ("b\n", "b.txt", None),
        ("d\n", "c", None),
    ]


def test_a_dev_entry_is_held_out_and_a_test_entry_only_without_one(folder: Path) -> None:
    (folder / "c").rename(folder / "train")
    (folder / "b.txt").rename(folder / "test.txt")
    source = text_files(folder, TaskConfig(name="corpus"))
    assert read(source) == [("d\n", "deep", False), ("b\n", "test.txt", True)]
    (folder / "a.rst").rename(folder / "dev.rst")
    source = text_files(folder, TaskConfig(name="corpus"))
    assert read(source) == [("d\n", "deep", False), ("a\n", "dev.rst", True)]


def test_another_version_is_one_of_other_files(folder: Path) -> None:
    before = text_files(folder, TaskConfig(name="corpus")).version
    assert text_files(folder, TaskConfig(name="corpus")).version == before
    (folder / "b.txt").write_text("longer\n")
    assert text_files(folder, TaskConfig(name="corpus")).version != before


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.JSON.gz", "rows.csv", "part.parquet"])
def test_a_table_is_not_read_as_plain_text(write: Write, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} is a table \(.*hf:FOLDER reads the texts in tables"):
        text_files(write(name, "{}"), TaskConfig(name="corpus"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no files"):
        text_files(tmp_path, TaskConfig(name="corpus"))


@pytest.mark.parametrize(
    ("key", "value"), [("text_column", "body"), ("bad_rows", "skip"), ("header", "none")]
)
def test_settings_of_tables_are_refused(write: Write, key: str, value: str) -> None:
    config = TaskConfig(name="corpus", **{key: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=rf"task.{key} is not read for text files, got '{value}'"):
        text_files(write("a.txt", "a"), config)


def test_the_standard_library_is_its_source_without_tests_and_builds(tmp_path: Path) -> None:
    for name in ("json/decoder.py", "json/tests/test_it.py", "test/b.py", "site-packages/c.py", "queue.py"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {name}\n")
    (tmp_path / "_sysconfigdata__linux.py").write_text("# this machine's\n")
    (tmp_path / "notes.txt").write_text("no source")
    found = read(standard_library(tmp_path))
    assert [(text, group) for text, group, _ in found] == [
        ("# json/decoder.py\n", "json"),
        ("# queue.py\n", "queue"),
    ]
    assert {is_held_out for _, _, is_held_out in found} <= {True, False}
    with pytest.raises(DataError, match="no Python sources in"):
        standard_library(tmp_path / "site-packages" / "none")
