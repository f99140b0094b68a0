"""Data of one's own: a file, or a folder with files named train, dev and test."""

from pathlib import Path

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.reading.corpus import Corpus, assemble, to_measure
from splitfl.data.reading.forms import Form
from splitfl.data.reading.rows import SUFFIXES, Tally, read_rows

TRAIN = ("train", "training")
HELD_OUT = (("dev", "validation", "valid", "val", "eval"), ("test", "testing"))
"""Names of held-out files, those to prefer first: test files are used where there is no dev file."""


def load_files(data: Path, config: TaskConfig, form: Form) -> Corpus:
    """The corpus in a file or folder; a file alone is split by the hash of its texts.

    Raises DataError for what is missing, ambiguous or malformed; see `read_rows`.
    """
    tally = Tally(config.bad_rows)
    train, held_out = _found(data) if data.is_dir() else (data, None)
    return assemble(
        read_rows(train, config, form, tally),
        None if held_out is None else read_rows(held_out, config, form, tally),
        form=form,
        tally=tally,
        labels=config.labels,
    )


def load_evaluation_file(data: Path, config: TaskConfig, form: Form) -> Corpus:
    """All rows of a file, or of a folder's held-out file, to measure on.

    Raises DataError for a folder without such a file, and as `read_rows` does.
    """
    tally = Tally(config.bad_rows)
    path = _held_out(data) if data.is_dir() else data
    if path is None:
        raise DataError(f"{data} has no dev, validation or test file to measure on")
    part = read_rows(path, config, form, tally)
    return to_measure(part, form=form, tally=tally, labels=config.labels)


def _found(folder: Path) -> tuple[Path, Path | None]:
    """The training file and, if there is one, the held-out file of a folder."""
    train = _named(folder, _data_files(folder), TRAIN)
    if train is None:
        raise DataError(
            f"{folder} has no training file; name one train{SUFFIXES[0]} (or {', '.join(SUFFIXES[1:])})"
        )
    return train, _held_out(folder)


def _held_out(folder: Path) -> Path | None:
    files = _data_files(folder)
    held_out = (_named(folder, files, stems) for stems in HELD_OUT)
    return next((path for path in held_out if path is not None), None)


def _data_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from None


def _named(folder: Path, files: list[Path], stems: tuple[str, ...]) -> Path | None:
    matching = [path for path in files if path.stem.lower() in stems]
    if len(matching) > 1:
        names = ", ".join(path.name for path in matching)
        raise DataError(f"{folder} has more than one {stems[0]} file: {names}; keep one")
    return matching[0] if matching else None
