"""Data sets by name, or in a local folder, whose rows the library `datasets` streams as documents."""

import io
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.reading.columns import find_columns
from splitfl.data.reading.forms import PLAIN
from splitfl.data.reading.hub import HELD_OUT, is_saved, library, load_named, load_saved
from splitfl.data.reading.text_files import stamp
from splitfl.data.reading.text_pieces import Document, TextSource


def text_stream(name: str, config: TaskConfig) -> TextSource:
    """The texts of a data set: NAME, OWNER/NAME or OWNER/NAME/CONFIG of the hub, or those in a local folder.

    A row is a document; rows without text are left out. Only the first `limit` rows of the training split
    and the first `eval_limit` of the held-out one are requested (0: all). Raises DataError as
    `load_hub` does, and ConfigError for `bad_rows` other than `refuse`.
    """
    if config.bad_rows != "refuse":
        raise ConfigError(f"task.bad_rows must be 'refuse' for task {config.name!r}, got {config.bad_rows!r}")
    folder = Path(name).expanduser()
    splits, version = _streams(name, folder)
    if "train" not in splits:
        raise DataError(f"the data set {name!r} has no split train; it has {', '.join(splits)}")
    held_out = next((split for split in HELD_OUT if split in splits), None)

    def documents() -> Iterator[Document]:
        yield from _documents(name, splits, "train", config, None if held_out is None else False)
        if held_out is not None:
            yield from _documents(name, splits, held_out, config, True)

    files = [stamp(path) for path in sorted(folder.rglob("*")) if path.is_file()] if folder.is_dir() else []
    read = config.limit, config.eval_limit, config.text_column, config.group_column, config.ignore_columns
    return TextSource(name=f"hf:{name}", version=repr((name, version, files, read)), documents=documents)


def _streams(name: str, folder: Path) -> tuple[Mapping[str, Any], str]:
    """All splits of the data set, and its version: the hub's commit, or that of what is in a folder."""
    datasets = library(name)
    if is_saved(folder):
        return load_saved(datasets, folder), ""

    def stream(*reading: str) -> tuple[Mapping[str, Any], str]:
        builder = datasets.load_dataset_builder(*reading)
        return builder.as_streaming_dataset(), str(builder.hash)

    found: tuple[Mapping[str, Any], str] = load_named(str(folder) if folder.is_dir() else name, stream)
    return found


def _documents(
    name: str, splits: Mapping[str, Any], split: str, config: TaskConfig, is_held_out: bool | None
) -> Iterator[Document]:
    """The rows of a split; their columns are those of the first one."""
    source = f"hf:{name} {split}"
    limit = (config.eval_limit if is_held_out else config.limit) or None
    columns = None
    for number, row in enumerate(_rows(source, islice(splits[split], limit)), start=1):
        columns = columns or find_columns(source, list(row), config, PLAIN).by_role
        text, group = row[columns["text"]], row.get(columns.get("group", ""), "")
        if text is not None and not isinstance(text, str):
            raise DataError(f"{source}, row {number}: the text must be a string, got {text!r:.60}")
        if text is not None and text.strip():
            yield Document(
                name=f"{source}, row {number}",
                group=str(group),
                open=partial(io.BytesIO, text.encode()),
                is_held_out=is_held_out,
            )


def _rows(source: str, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows, as far as the library can read them; then DataError."""
    try:
        yield from rows
    except Exception as error:  # whatever the library's HTTP client and its readers raise
        said = (str(error).splitlines() or [""])[0]
        raise DataError(f"cannot read {source}: {type(error).__name__}: {said}") from None
