"""The rows of one local file: TSV, CSV, JSON lines, JSON, or plain text.

A column is found by its name (text or sentence, label, group). A TSV or CSV file
without such a first row is read as text and label, or as text alone where no label is
wanted. Blank lines are not rows. TSV knows no quotes, CSV is RFC 4180.
"""

import csv
import io
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from splitfl.errors import DataError

log = logging.getLogger(__name__)

TEXT_COLUMNS = ("text", "sentence")
LABEL_COLUMN = "label"
GROUP_COLUMN = "group"
SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", ".txt")


@dataclass(frozen=True, kw_only=True)
class Row:
    """A well-formed row and where it stands; `label` is "" where none was wanted."""

    place: str
    text: str
    label: str
    group: str


@dataclass(frozen=True)
class BadRow:
    """A row is malformed: where, and in what."""

    place: str
    reason: str


class Tally:
    """Refuses the first bad row, or skips and counts them all."""

    def __init__(self, bad_rows: str) -> None:
        self.refuses = bad_rows == "refuse"
        self.skipped = 0

    def bad(self, source: str, row: BadRow) -> None:
        """Raises DataError naming file, line and reason, or counts the row."""
        if self.refuses:
            raise DataError(
                f"{source}, {row.place}: {row.reason} (task.bad_rows = 'skip' leaves such rows out)"
            )
        self.skipped += 1
        log.debug("skipped %s, %s: %s", source, row.place, row.reason)

    def good(self, source: str, rows: Iterable[Row | BadRow]) -> list[Row]:
        """The rows that are well-formed. Raises DataError where that is none."""
        kept, before = [], self.skipped
        for row in rows:
            if isinstance(row, Row):
                kept.append(row)
            else:
                self.bad(source, row)
        if not kept:
            malformed = f" but {self.skipped - before} malformed rows" if self.skipped > before else ""
            raise DataError(f"{source} holds no samples{malformed}")
        return kept


def read_rows(path: Path, *, labelled: bool, tally: Tally) -> list[Row]:
    """The rows of a file, malformed ones refused or counted by `tally`.

    Raises DataError for a file that is missing, of an unknown kind, not UTF-8, without
    the columns needed, or without rows.
    """
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        raise DataError(f"{path} is of an unknown kind; data files end in {', '.join(SUFFIXES)}")
    if kind == ".txt" and labelled:
        raise DataError(f"{path} is plain text and has no labels; give .tsv, .csv, .jsonl or .json")
    items = _items(path, kind, _decoded(path), labelled)
    return tally.good(
        str(path), (item if isinstance(item, BadRow) else checked(*item, labelled) for item in items)
    )


def checked(place: str, item: object, labelled: bool) -> Row | BadRow:
    """The row in an object of named columns; a label or a group may be a whole number too."""
    if not isinstance(item, Mapping):
        return BadRow(place, f"must be a JSON object, got {type(item).__name__}")
    cells = {}
    for name in (*TEXT_COLUMNS, LABEL_COLUMN, GROUP_COLUMN):
        value = item.get(name, "")
        if isinstance(value, int) and name not in TEXT_COLUMNS:
            value = str(value).lower()
        if not isinstance(value, str):
            return BadRow(place, f"{name} must be a string, got {value!r}")
        cells[name] = value.strip()
    text = next((cells[name] for name in TEXT_COLUMNS if cells[name]), "")
    if not text:
        return BadRow(place, "the text is missing or empty")
    if labelled and not cells[LABEL_COLUMN]:
        return BadRow(place, "the label is missing or empty")
    if any("\ud800" <= character <= "\udfff" for character in text):
        return BadRow(place, "the text holds half a surrogate pair, which is no character")
    return Row(place=place, text=text, label=cells[LABEL_COLUMN] * labelled, group=cells[GROUP_COLUMN])


Item = tuple[str, object] | BadRow
Line = tuple[str, list[str]] | BadRow


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text; convert the file") from None


def _items(path: Path, kind: str, text: str, labelled: bool) -> Iterator[Item]:
    """Where each row stands and what is there, or what is wrong with it."""
    if kind == ".txt":
        return ((place, {"text": line}) for place, line in _lines(text))
    if kind == ".jsonl":
        return (_parsed(place, line) for place, line in _lines(text))
    if kind == ".json":
        return _listed(path, text)
    return _table(path, _delimited(text) if kind == ".csv" else _tabbed(text), labelled)


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """Lines that are not blank; only line feeds end one, unlike str.splitlines."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line.rstrip("\r")


def _parsed(place: str, line: str) -> Item:
    try:
        return place, json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(place, f"not JSON: {error}")


def _listed(path: Path, text: str) -> Iterator[Item]:
    try:
        items = json.loads(text) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    if not isinstance(items, list):
        raise DataError(f"{path} must be a JSON list of objects, got {type(items).__name__}")
    return ((f"item {number}", item) for number, item in enumerate(items, start=1))


def _tabbed(text: str) -> Iterator[Line]:
    return ((place, line.split("\t")) for place, line in _lines(text))


def _delimited(text: str) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        place = f"line {reader.line_num + 1}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield BadRow(place, f"not CSV: {error}")
            continue
        if any(cell.strip() for cell in cells):
            yield place, cells


def _table(path: Path, lines: Iterator[Line], labelled: bool) -> Iterator[Item]:
    """Rows of cells, named by the first row if that is a header and by position if not."""
    names: list[str] = []
    for line in lines:
        if isinstance(line, BadRow):
            yield line
            continue
        place, cells = line
        if not names:
            names = [cell.strip().lower() for cell in cells]
            if _is_header(path, names, labelled):
                continue
            names = _by_position(path, place, len(cells), labelled)
        if len(cells) == len(names):
            yield place, dict(zip(names, cells, strict=True))
        else:
            yield BadRow(place, f"has {len(cells)} columns instead of {len(names)}: {', '.join(names)}")


def _is_header(path: Path, names: list[str], labelled: bool) -> bool:
    """Whether these name a column that we know. Raises DataError if another one is missing."""
    if LABEL_COLUMN not in names and not any(name in names for name in TEXT_COLUMNS):
        return False
    for needed in [TEXT_COLUMNS, (LABEL_COLUMN,)] if labelled else [TEXT_COLUMNS]:
        if not any(name in names for name in needed):
            raise DataError(f"{path} has no column {' or '.join(needed)}; it has {', '.join(names)}")
    return True


def _by_position(path: Path, place: str, columns: int, labelled: bool) -> list[str]:
    names = ["text", LABEL_COLUMN] if labelled else ["text"]
    if columns != len(names):
        raise DataError(
            f"{path}, {place}: {columns} column{'s' * (columns != 1)} and no header; name the columns "
            f"({' or '.join(TEXT_COLUMNS)}, {LABEL_COLUMN}) or give {' and '.join(names)} alone"
        )
    return names
