"""Parsers of data files (TSV, CSV, JSON lines, JSON, plain text) into rows with their location.

Blank lines are ignored. TSV has no quoting, CSV is RFC 4180 with any separator; lines end in LF, CR LF or,
throughout a file, CR. An object of JSON has each key once.
"""

import csv
import io
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from splitfl.core.errors import DataError


@dataclass(frozen=True)
class BadRow:
    """A malformed row: its location, and the reason."""

    place: str
    reason: str


Item = tuple[str, object] | BadRow
Line = tuple[str, list[str]] | BadRow


def decoded(path: Path) -> str:
    """The file's text. Raises DataError if it cannot be read or is not UTF-8."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text; convert the file") from None
    return text if "\n" in text else text.replace("\r", "\n")


def lines_of(text: str) -> Iterator[tuple[str, str]]:
    """Non-blank lines with their location; only line feeds end a line, unlike str.splitlines."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"line {number}", line.rstrip("\r")


def json_lines(text: str) -> Iterator[Item]:
    """The object on each line."""
    return (_parsed(place, line) for place, line in lines_of(text))


def _parsed(place: str, line: str) -> Item:
    try:
        return place, json.loads(line, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        return BadRow(place, f"not JSON: {error}")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """The object of these keys. Raises ValueError if one is repeated: json would keep its last value."""
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} occurs twice in an object")
        found[key] = value
    return found


def json_list(path: Path, text: str) -> Iterator[Item]:
    """The objects in a JSON list, or on each line if the first is one; DataError for any other content."""
    try:
        items = json.loads(text, object_pairs_hook=_object) if text.strip() else []
    except (ValueError, RecursionError) as error:
        first = next(json_lines(text))
        if not isinstance(first, BadRow) and isinstance(first[1], dict):
            return json_lines(text)
        raise DataError(f"{path} is not JSON: {error}") from None
    if not isinstance(items, list):
        raise DataError(f"{path} must be a JSON list of objects, got {type(items).__name__}")
    return ((f"item {number}", item) for number, item in enumerate(items, start=1))


def tabbed(text: str) -> list[Line]:
    """The tab-separated cells of each line."""
    return [(place, line.split("\t")) for place, line in lines_of(text)]


def delimited(text: str, separator: str) -> list[Line]:
    """The cells of each record of a CSV file."""
    limit = csv.field_size_limit(sys.maxsize)  # the default of 131,072 characters is a global setting
    try:
        return list(_csv_lines(text, separator))
    finally:
        csv.field_size_limit(limit)


def _csv_lines(text: str, separator: str) -> Iterator[Line]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
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
