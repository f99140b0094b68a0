"""The rows of one local file, and what each of its columns is.

A column is found by its name (see columns.py). A TSV or CSV file without a first row of names
is read as text and label, or as text alone where no label is wanted. Names in a CSV file may be separated by
semicolons or tabs; its rows are then, too.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.reading.columns import Columns, chosen_column, find_columns, is_header
from splitfl.data.reading.file_formats import (
    BadRow,
    Item,
    Line,
    decoded,
    delimited,
    json_lines,
    json_list,
    lines_of,
    tabbed,
)
from splitfl.data.reading.forms import PLAIN, Form, listed
from splitfl.data.text_kinds import Tagged, Text

log = logging.getLogger(__name__)

SUFFIXES = (".tsv", ".csv", ".jsonl", ".json", ".txt")
_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}
_LARGEST: Final = 3.4028234663852886e38
"""The largest float32, in which labels are learnt."""

Label = str | float | tuple[str, ...]
"""A class, a number, or several classes."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """A well-formed row and where it stands; `label` is "" where none was wanted."""

    place: str
    text: Text
    label: Label
    group: str


@dataclass(frozen=True, kw_only=True)
class Part:
    """The rows of one file or one split, what to call it, and how its columns were read.

    `classes` are the names that the data set itself gives its classes, in their order.
    """

    source: str
    rows: list[Row]
    columns: str
    classes: tuple[str, ...] = ()


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


def read_rows(path: Path, config: TaskConfig, form: Form, tally: Tally) -> Part:
    """The rows of a file, malformed ones refused or counted by `tally`.

    Raises DataError for a file that is missing, of an unknown kind, not UTF-8, with columns
    that are not read, without those needed, or without rows.
    """
    kind, source = path.suffix.lower(), str(path)
    if kind not in SUFFIXES:
        raise DataError(f"{path} is of an unknown kind; data files end in {', '.join(SUFFIXES)}")
    if kind == ".txt" and form is not PLAIN:
        lacks = "labels" if form.is_labelled else "columns"
        raise DataError(f"{path} is plain text and has no {lacks}; give .tsv, .csv, .jsonl or .json")
    text = decoded(path)
    if kind == ".txt":
        rows = (Row(place=at, text=line.strip(), label="", group="") for at, line in lines_of(text))
        return Part(source=source, rows=tally.good(source, rows), columns="a text on each line")
    if kind in (".jsonl", ".json"):
        items = json_list(path, text) if kind == ".json" else json_lines(text)
        return read_items(source, items, config, form, tally)
    separator = _separator(text, config, form) if kind == ".csv" else "\t"
    lines = delimited(text, separator) if kind == ".csv" else tabbed(text)
    return _read_table(source, lines, config, form, tally, _SEPARATORS[separator])


def _separator(text: str, config: TaskConfig, form: Form) -> str:
    """The separator with which the first line names columns; a comma if none does."""
    _, first = next(lines_of(text), ("", ""))
    named = (
        one for one in _SEPARATORS if is_header([cell.strip('" ') for cell in first.split(one)], config, form)
    )
    return next(named, ",")


def read_items(source: str, items: Iterable[Item], config: TaskConfig, form: Form, tally: Tally) -> Part:
    """The rows in objects with named values, which need not all have the same names."""
    found: dict[tuple[str, ...], Columns] = {}

    def row(item: Item) -> Row | BadRow:
        if isinstance(item, BadRow):
            return item
        place, values = item
        if not isinstance(values, Mapping):
            return BadRow(place, f"must be a JSON object, got {type(values).__name__}")
        names = tuple(map(str, values))
        if names not in found:
            where = f"{source}, {place}"
            found[names] = find_columns(where, names, config, form, is_table=False)
        return _checked(place, values, found[names], form, config.label_separator)

    rows = tally.good(source, map(row, items))
    return Part(source=source, rows=rows, columns=" or ".join(dict.fromkeys(map(str, found.values()))))


def _read_table(
    source: str, lines: list[Line], config: TaskConfig, form: Form, tally: Tally, separators: str
) -> Part:
    """Rows of cells, named by the first row if that is a header and by number if not."""
    at, first = next(((n, line) for n, line in enumerate(lines) if not isinstance(line, BadRow)), (0, None))
    if first is None:
        tally.good(source, (line for line in lines if isinstance(line, BadRow)))
        raise AssertionError("a file without a single good line is refused")
    place, cells = first
    has_header = is_header(cells, config, form)
    names = [cell.strip() for cell in cells] if has_header else [str(n) for n in range(1, len(cells) + 1)]
    if not has_header:
        config = _by_position(source, place, names, config, form, separators)
    columns = find_columns(source, names, config, form)

    def row(line: Line) -> Row | BadRow:
        if isinstance(line, BadRow):
            return line
        place, cells = line
        if len(cells) != len(names):
            listed = f": {', '.join(names)}" if has_header else ""
            return BadRow(place, f"has {len(cells)} columns instead of {len(names)}{listed}")
        return _checked(place, dict(zip(names, cells, strict=True)), columns, form, config.label_separator)

    rows = tally.good(source, map(row, lines[:at] + lines[at + has_header :]))
    if not has_header and config.header == "auto":
        _refuse_unknown_header(source, rows, form)
    return Part(source=source, rows=rows, columns=str(columns) + ("" if has_header else " (no header)"))


def _by_position(
    source: str, place: str, names: Sequence[str], config: TaskConfig, form: Form, separators: str
) -> TaskConfig:
    """The settings with the columns of a table without a header: text, then label, unless they say else."""
    given = {role: chosen_column(config, role) for role in form.roles}
    if named := [value for value in given.values() if value and not value.isdecimal()]:
        raise DataError(f"{source} has no column {named[0]!r}: its first row names no column")
    wanted = dict(form.by_position)
    if not any(given.values()) and len(names) != len(wanted):
        needed = wanted or form.needs[-1]
        raise DataError(
            f"{source}, {place}: {len(names)} column{'s' * (len(names) != 1)} between {separators} and no "
            f"header. Name the columns in a first row ({', '.join(needed)}), or say in "
            f"{' and '.join(f'task.{role}_column' for role in needed)} which they are, counted from 1"
        )
    columns: dict[str, Any] = {f"{role}_column": given[role] or wanted.get(role, "") for role in form.roles}
    return replace(config, **columns)


def _refuse_unknown_header(source: str, rows: Sequence[Row], form: Form) -> None:
    """DataError where the first row looks like names of columns: a word or two, and a label like no other."""
    first, others = rows[0], rows[1:]
    if len(str(first.text).split()) > 2 or not others:
        return
    if form.labels == "class":
        counts = Counter(row.label for row in others)
        looks_like_names = first.label not in counts and min(counts.values()) > 1
    else:  # a word in place of a number is no label
        looks_like_names = not form.is_labelled and all(len(str(row.text).split()) > 2 for row in others)
    if looks_like_names:
        found = {"text": str(first.text), "label": str(first.label)}
        named = {role: found[role] for role in form.by_position}
        setting = " and ".join(f"task.{role}_column = {name!r}" for role, name in named.items())
        raise DataError(
            f"{source}, {first.place}: {' and '.join(map(repr, named.values()))} look like names of columns. "
            f"If they are, set {setting}; if they are a sample, set task.header = 'none'"
        )


def _checked(
    place: str, item: Mapping[str, object], columns: Columns, form: Form, separator: str
) -> Row | BadRow:
    """The row in these values; a label or a group may be a whole number too."""
    values = {role: item[name] for role, name in columns.by_role.items() if name in item}
    try:
        text = form.text(values)
        label = _label(values, text, form, separator)
        group = _word(values, "group")
    except DataError as error:
        return BadRow(place, str(error))
    if any("\ud800" <= character <= "\udfff" for character in f"{text}{label}{group}"):
        return BadRow(place, "it holds half a surrogate pair, which is no character")
    return Row(place=place, text=text, label=label, group=group)


def _label(values: Mapping[str, object], text: Text, form: Form, separator: str) -> Label:
    """What this form calls a label; DataError for anything else."""
    if isinstance(text, Tagged):
        return text.tags
    if form.labels == "set":
        return _several(values.get("label"), separator)
    if form.labels == "number":
        return _number(values.get("label"))
    label = _word(values, "label")
    if form.is_labelled and not label:
        raise DataError("the label is missing or empty")
    return label


def _number(value: object) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= _LARGEST or isinstance(value, bool):
        raise DataError(f"the label must be a number, got {value!r:.60}")
    return number


def _several(value: object, separator: str) -> tuple[str, ...]:
    """Different classes, in their order; none is a label too."""
    if isinstance(value, str) and (found := listed(value, "[")) is not None:
        value = found
    elif isinstance(value, str):
        value = [word for word in value.split(separator) if word.strip()]
    if not isinstance(value, list | tuple) or not all(type(word) in (str, int) for word in value):
        raise DataError(
            f"the label must be a list of classes, or classes with task.label_separator = {separator!r} "
            f"between them; got {value!r:.60}"
        )
    names = sorted(str(word).strip() for word in value)
    if "" in names or len(set(names)) < len(names):
        raise DataError(f"the label must list different classes by their names, got {value!r:.60}")
    return tuple(names)


def _word(values: Mapping[str, object], role: str) -> str:
    """The name in this role, "" where there is none; DataError for anything that is no name."""
    value = values.get(role, "")
    if isinstance(value, int):
        value = str(value).lower()
    if role == "label" and listed(value, "[") is not None:
        raise DataError(f"the label is a list, {value!r:.60}: a text has one label here")
    if not isinstance(value, str):
        raise DataError(f"the {role} must be a string, got {value!r:.60}")
    return value.strip()
