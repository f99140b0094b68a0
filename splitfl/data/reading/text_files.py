"""Text files of any size as documents: those of a folder, one file, and Python's standard library."""

import gzip
import sys
import sysconfig
from collections.abc import Iterator
from functools import partial
from io import BufferedIOBase, BytesIO
from pathlib import Path
from typing import Final

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.examples import HELD_OUT_ONE_IN, text_hash
from splitfl.data.reading.files import HELD_OUT, TRAIN
from splitfl.data.reading.stdlib import SKIPPED_FOLDERS
from splitfl.data.reading.text_pieces import Document, TextSource

_TABLES: Final = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow")
_BUILT_HERE: Final = ("_sysconfigdata", "config-")
"""How names begin in the standard library that stand for one machine's build of Python."""


def text_files(data: Path, config: TaskConfig) -> TextSource:
    """The text in a file, or in all files of a folder and its folders, hidden ones excepted.

    Files that end in .gz are decompressed. In a folder with an entry `train`, that is read, and an entry
    `dev`, `validation` or `test` is held out. The group of a document is the entry that holds it, without
    `train`. Raises ConfigError for settings of columns, DataError for tables and for a folder without files.
    """
    for name in ("text_column", "group_column", "bad_rows", "header"):
        if (value := getattr(config, name)) != getattr(TaskConfig(), name):
            raise ConfigError(f"task.{name} is not read for text files, got {value!r}")
    parts = _parts(data) if data.is_dir() else {data: None}
    files = [(root, path, is_held_out) for root, is_held_out in parts.items() for path in _files(root)]
    if not files:
        raise DataError(f"{data} has no files")
    for _, path, _ in files:
        if (kind := Path(path.name.removesuffix(".gz")).suffix.lower()) in _TABLES:
            raise DataError(
                f"{path} is a table ({kind}) and no plain text; hf:FOLDER reads the texts in "
                "tables by the library datasets"
            )

    def documents() -> Iterator[Document]:
        for root, path, is_held_out in files:
            within = path.relative_to(root).parts if path != root else (path.name,)
            yield Document(
                name=str(path), group=within[0], open=partial(_opened, path), is_held_out=is_held_out
            )

    version = repr([(is_held_out, *stamp(path)) for _, path, is_held_out in files])
    return TextSource(name=str(data), version=version, documents=documents)


def standard_library(root: Path | None = None) -> TextSource:
    """The source files of a standard library, by default the running Python's, without its tests.

    A document is a file, its group is the top-level module or package; files are held out by their hash.
    Files that differ between builds of one version of Python are left out. Raises DataError without sources.
    """
    root = root or Path(sysconfig.get_path("stdlib"))
    paths = [path for path in _files(root) if path.suffix == ".py" and _is_library(path.relative_to(root))]
    if not paths:
        raise DataError(
            f"no Python sources in {root}: this Python was installed without them; choose task corpus and "
            "give data of your own"
        )

    def documents() -> Iterator[Document]:
        for path in paths:
            data = path.read_bytes()
            yield Document(
                name=str(path),
                group=path.relative_to(root).parts[0].removesuffix(".py"),
                open=partial(BytesIO, data),
                is_held_out=text_hash(data.decode(errors="replace")) % HELD_OUT_ONE_IN == 0,
            )

    return TextSource(
        name="the source of Python's standard library",
        version=repr((sys.version, [stamp(path) for path in paths])),
        documents=documents,
    )


def stamp(path: Path) -> tuple[str, int, int]:
    """What differs once a file is another one: its place, its size and when it was written (ns)."""
    try:
        found = path.stat()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    return str(path.absolute()), found.st_size, found.st_mtime_ns


def _is_library(path: Path) -> bool:
    return SKIPPED_FOLDERS.isdisjoint(path.parts) and not path.parts[0].startswith(_BUILT_HERE)


def _parts(folder: Path) -> dict[Path, bool | None]:
    """The entries of a folder to read, and whether they are held out; the folder, if none is called train."""
    entries = _entries(folder)
    train = [path for path in entries if _stem(path) in TRAIN]
    if not train:
        return {folder: None}
    found = ([path for path in entries if _stem(path) in names] for names in HELD_OUT)
    held_out = next(filter(None, found), [])
    parts: dict[Path, bool | None] = dict.fromkeys(train, False if held_out else None)
    return parts | dict.fromkeys(held_out, True)


def _stem(path: Path) -> str:
    return path.name.split(".")[0].lower()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from None


def _files(root: Path) -> Iterator[Path]:
    """This file, or all files below this folder, in one order on every machine."""
    if not root.is_dir():
        yield root
        return
    for path in _entries(root):
        yield from _files(path)


def _opened(path: Path) -> BufferedIOBase:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")
