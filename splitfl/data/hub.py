"""Data sets by name, through the library `datasets` where that is installed."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from splitfl.data.corpus import Corpus, Part, assemble
from splitfl.data.rows import LABEL_COLUMN, TEXT_COLUMNS, BadRow, Row, Tally, checked
from splitfl.errors import DataError

HELD_OUT = ("validation", "dev", "test")


def load_hub(name: str, *, labelled: bool, bad_rows: str) -> Corpus:
    """The data set NAME, NAME/CONFIG, OWNER/NAME or OWNER/NAME/CONFIG of the Hugging Face hub.

    Raises DataError where the library is not installed, the data set cannot be had, or
    has no training split with a column named text or sentence (and label).
    """
    try:
        datasets: Any = importlib.import_module("datasets")
    except ImportError:
        raise DataError(
            f"the data set {name!r} needs the library datasets: pip install 'splitfl[data]'; "
            "for local data give a file or folder that exists"
        ) from None
    splits = _downloaded(datasets, name)
    if "train" not in splits:
        raise DataError(f"the data set {name!r} has no split train; it has {', '.join(splits)}")
    tally = Tally(bad_rows)
    held_out = next((split for split in HELD_OUT if split in splits), None)
    return assemble(
        _part(datasets, name, "train", splits, labelled, tally),
        None if held_out is None else _part(datasets, name, held_out, splits, labelled, tally),
        labelled=labelled,
        tally=tally,
    )


def _downloaded(datasets: Any, name: str) -> Any:
    """All splits of a data set; the second of two words is a configuration if it is not a name."""
    words = name.split("/")
    readings: dict[int, list[tuple[str, ...]]] = {
        1: [(name,)],
        2: [(name,), (words[0], words[-1])],
        3: [("/".join(words[:2]), words[-1])],
    }
    reason: Exception | None = None
    for reading in readings.get(len(words), []):
        try:
            with _quiet_retries():
                return datasets.load_dataset(*reading)
        except Exception as error:  # the library lets through whatever its HTTP client and its readers raise
            reason = reason or error
            if isinstance(error, ConnectionError):  # each reading of the name would wait for the network anew
                break
    first_line = (str(reason).splitlines() or [""])[0]
    why = f"{type(reason).__name__}: {first_line}" if reason else "it is not of the form OWNER/NAME/CONFIG"
    raise DataError(
        f"cannot get the data set {name!r} ({why}); check the name and the network, or give a file or "
        "folder that exists"
    )


@contextmanager
def _quiet_retries() -> Iterator[None]:
    """Keeps the hub client's line for each try, some twelve of them, off the screen: the end says it all."""
    client = logging.getLogger("huggingface_hub")
    level = client.level
    client.setLevel(logging.ERROR)
    try:
        yield
    finally:
        client.setLevel(level)


def _part(datasets: Any, name: str, split: str, splits: Any, labelled: bool, tally: Tally) -> Part:
    source = f"hf:{name} {split}"
    columns = splits[split].column_names
    for needed in [TEXT_COLUMNS, (LABEL_COLUMN,)] if labelled else [TEXT_COLUMNS]:
        if not any(column in columns for column in needed):
            raise DataError(f"{source} has no column {' or '.join(needed)}; it has {', '.join(columns)}")
    label = splits[split].features.get(LABEL_COLUMN)
    names = label.names if isinstance(label, datasets.ClassLabel) else []
    return Part(source, tally.good(source, _rows(splits[split], labelled, names)))


def _rows(split: Any, labelled: bool, names: list[str]) -> Iterator[Row | BadRow]:
    """Rows with classes by their names; blank lines of plain text are not rows, as in a file."""
    for number, item in enumerate(split, start=1):
        if labelled and names:
            label = item[LABEL_COLUMN]
            item = {**item, LABEL_COLUMN: names[label] if label is not None and label >= 0 else ""}
        if labelled or any(str(item.get(column) or "").strip() for column in TEXT_COLUMNS):
            yield checked(f"row {number}", item, labelled)
