"""Data of one's own: a file, or a folder with files named train, dev and test."""

from pathlib import Path

from splitfl.data.corpus import Corpus, Part, assemble
from splitfl.data.rows import SUFFIXES, Tally, read_rows
from splitfl.errors import DataError

TRAIN = ("train",)
HELD_OUT = (("dev", "validation", "valid", "val"), ("test",))
"""Names of held-out files, those to prefer first: test files are used where there is no dev file."""


def load_files(data: Path, *, labelled: bool, bad_rows: str) -> Corpus:
    """The corpus in a file or folder; a file alone is split by the hash of its texts.

    Raises DataError for what is missing, ambiguous or malformed; see `read_rows`.
    """
    tally = Tally(bad_rows)
    train, held_out = _found(data) if data.is_dir() else (data, None)
    return assemble(
        _part(train, labelled, tally),
        None if held_out is None else _part(held_out, labelled, tally),
        labelled=labelled,
        tally=tally,
    )


def _part(path: Path, labelled: bool, tally: Tally) -> Part:
    return Part(str(path), read_rows(path, labelled=labelled, tally=tally))


def _found(folder: Path) -> tuple[Path, Path | None]:
    """The training file and, if there is one, the held-out file of a folder."""
    try:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    except OSError as error:
        raise DataError(f"cannot read {folder}: {error.strerror}") from None
    train = _named(folder, files, TRAIN)
    if train is None:
        raise DataError(
            f"{folder} has no training file; name one train{SUFFIXES[0]} (or {', '.join(SUFFIXES[1:])})"
        )
    held_out = (_named(folder, files, stems) for stems in HELD_OUT)
    return train, next((path for path in held_out if path is not None), None)


def _named(folder: Path, files: list[Path], stems: tuple[str, ...]) -> Path | None:
    matching = [path for path in files if path.stem.lower() in stems]
    if len(matching) > 1:
        names = ", ".join(path.name for path in matching)
        raise DataError(f"{folder} has more than one {stems[0]} file: {names}; keep one")
    return matching[0] if matching else None
