"""Pictures in folders named after their classes: which there are."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.reading.corpus import Corpus, assemble, to_measure
from splitfl.data.reading.file_formats import BadRow
from splitfl.data.reading.files import HELD_OUT, TRAIN
from splitfl.data.reading.forms import PICTURED
from splitfl.data.reading.rows import Part, Row, Tally
from splitfl.data.text_kinds import PictureFile

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def load_picture_folder(config: TaskConfig) -> Corpus:
    """The corpus in a folder with train/CLASS/picture.png and dev or test likewise, or CLASS/picture.png.

    Raises DataError where there are no such folders, and as `assemble` does.
    """
    folder, tally = _folder(config), Tally(config.bad_rows)
    train = _named(folder, TRAIN)
    held_out = _held_out(folder) if train is not None else None
    return assemble(
        _part(train or folder, tally),
        None if held_out is None else _part(held_out, tally),
        form=PICTURED,
        tally=tally,
        labels=config.labels,
    )


def load_picture_evaluation(config: TaskConfig) -> Corpus:
    """All pictures of a folder, or of its held-out folder where it has one, to measure on."""
    folder, tally = _folder(config), Tally(config.bad_rows)
    return to_measure(
        _part(_held_out(folder) or folder, tally), form=PICTURED, tally=tally, labels=config.labels
    )


def _folder(config: TaskConfig) -> Path:
    if not config.data:
        raise DataError(
            f"task {config.name!r} needs data: a folder with a folder of pictures for each class, or with "
            "such folders in train and dev; give it with --data or as task.data"
        )
    folder = Path(config.data).expanduser()
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder}; give one with a folder of pictures for each class")
    return folder


def _held_out(folder: Path) -> Path | None:
    return next((found for names in HELD_OUT if (found := _named(folder, names)) is not None), None)


def _named(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next(
        (path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in names), None
    )


def _part(folder: Path, tally: Tally) -> Part:
    """The pictures below a folder, each in the folder of its class."""
    rows = tally.good(str(folder), _rows(folder))
    return Part(source=str(folder), rows=rows, columns="pictures in folders of their classes")


def _rows(folder: Path) -> Iterator[Row | BadRow]:
    for path in sorted(folder.rglob("*")):
        kind, *inside = path.relative_to(folder).parts
        if path.is_dir() or any(part.startswith(".") for part in (kind, *inside)):
            continue
        if inside:
            yield _row(path, kind)
        elif path.suffix.lower() in SUFFIXES:
            yield BadRow(str(path), "is in no folder of a class")


def _row(path: Path, label: str) -> Row | BadRow:
    if path.suffix.lower() not in SUFFIXES:
        return BadRow(str(path), f"is no picture; files of pictures end in {', '.join(SUFFIXES)}")
    try:
        data = path.read_bytes()
        with Image.open(io.BytesIO(data)) as picture:
            reason = _unsuited(picture)
            picture.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return BadRow(str(path), f"cannot be read: {error}")
    if reason:
        return BadRow(str(path), reason)
    digest = hashlib.blake2b(data, digest_size=16).hexdigest()
    return Row(place=str(path), text=PictureFile(path, digest), label=label, group=label)


def _unsuited(picture: Image.Image) -> str:
    """Why a picture would be read as another one; "" for a single one of 8 bits a channel."""
    if picture.mode.startswith(("I", "F")):
        return f"has more than 8 bits a channel (mode {picture.mode}); save it again with values of 0..255"
    return (
        "has several frames; save those to learn from one by one"
        if getattr(picture, "is_animated", False)
        else ""
    )
