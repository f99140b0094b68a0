"""Data sets by name, or in a folder of `save_to_disk`, through the library `datasets` if it is installed."""

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.reading.columns import find_columns
from splitfl.data.reading.corpus import Corpus, assemble, to_measure
from splitfl.data.reading.forms import PLAIN, Form
from splitfl.data.reading.rows import Part, Tally, read_items

HELD_OUT = ("validation", "dev", "test")


def load_hub(name: str, config: TaskConfig, form: Form) -> Corpus:
    """The data set NAME, NAME/CONFIG, OWNER/NAME or OWNER/NAME/CONFIG of the hub, or in a saved folder.

    Raises DataError where the library is not installed, the data set cannot be had, or
    has no training split with a column of texts (and one of labels).
    """
    datasets, splits = _found(name)
    if "train" not in splits:
        raise DataError(f"the data set {name!r} has no split train; it has {', '.join(splits)}")
    tally = Tally(config.bad_rows)
    held_out = next((split for split in HELD_OUT if split in splits), None)
    return assemble(
        _part(datasets, name, "train", splits, config, form, tally),
        None if held_out is None else _part(datasets, name, held_out, splits, config, form, tally),
        form=form,
        tally=tally,
        labels=config.labels,
    )


def load_evaluation_split(name: str, config: TaskConfig, form: Form) -> Corpus:
    """All rows of a data set's held-out split, to measure on; DataError where it has none."""
    datasets, splits = _found(name)
    held_out = next((split for split in HELD_OUT if split in splits), None)
    if held_out is None:
        raise DataError(
            f"the data set {name!r} has no split {', '.join(HELD_OUT)}; it has {', '.join(splits)}"
        )
    tally = Tally(config.bad_rows)
    part = _part(datasets, name, held_out, splits, config, form, tally)
    return to_measure(part, form=form, tally=tally, labels=config.labels)


def _found(name: str) -> tuple[Any, Any]:
    """The library, and all splits of the data set."""
    datasets = library(name)
    saved = is_saved(Path(name))
    return datasets, load_saved(datasets, Path(name)) if saved else load_named(name, datasets.load_dataset)


def library(name: str) -> Any:
    """The library `datasets`, which this data set needs. Raises DataError where it is not installed."""
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise DataError(
            f"the data set {name!r} needs the library datasets: pip install 'splitfl[data]'; "
            "for local data give a file or folder that exists"
        ) from None


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` of the library has written this folder."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def load_saved(datasets: Any, folder: Path) -> Any:
    """All splits in a saved folder; a data set without splits is one to train on. Raises DataError."""
    try:
        found = datasets.load_from_disk(str(folder))
    except Exception as error:  # of any kind: arrow has its own
        said = (str(error).splitlines() or [""])[0]
        raise DataError(f"cannot read the data set in {folder}: {type(error).__name__}: {said}") from None
    return found if isinstance(found, datasets.DatasetDict) else {"train": found}


def load_named(name: str, load: Callable[..., Any]) -> Any:
    """What `load` of the library gives for a name or a local folder; DataError where it gives nothing.

    The second of two words is a configuration if it is not a name.
    """
    words = [name] if Path(name).is_dir() else name.split("/")
    readings: dict[int, list[tuple[str, ...]]] = {
        1: [(name,)],
        2: [(name,), (words[0], words[-1])],
        3: [("/".join(words[:2]), words[-1])],
    }
    reason: Exception | None = None
    for reading in readings.get(len(words), []):
        try:
            with _quiet_retries():
                return load(*reading)
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


def _part(
    datasets: Any, name: str, split: str, splits: Any, config: TaskConfig, form: Form, tally: Tally
) -> Part:
    source = f"{name} {split}" if is_saved(Path(name)) else f"hf:{name} {split}"
    names = splits[split].column_names
    columns = find_columns(source, names, config, form)
    label = columns.by_role.get("label", columns.by_role.get("tags", ""))
    feature = splits[split].features.get(label)
    feature = getattr(feature, "feature", feature)  # of a list, that of its members
    classes = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()
    rows = enumerate(splits[split], start=1)
    items: Iterator[tuple[str, Any]] = ((f"row {number}", item) for number, item in rows)
    if classes:
        items = ((place, _with_name(item, label, classes)) for place, item in items)
    if form is PLAIN:  # blank lines of plain text are not rows, as in a file
        text = columns.by_role["text"]
        items = ((place, item) for place, item in items if str(item[text] or "").strip())
    part = read_items(source, items, config, form, tally)
    return replace(part, classes=classes)


def _with_name(item: dict[str, Any], label: str, classes: tuple[str, ...]) -> dict[str, Any]:
    """The row with its class by its name; a data set says -1 where there is none."""
    number = item[label]
    if isinstance(number, list):
        return {**item, label: [classes[one] for one in number]}
    return {**item, label: classes[number] if number is not None and number >= 0 else ""}
