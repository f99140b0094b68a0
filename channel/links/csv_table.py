"""Numeric tables in CSV or TSV: a header line of column names, then one line per row.

The separator is a comma, a semicolon or a tab, detected from the header. Spaces around fields, quotes,
the case of column names, empty lines and # comments are ignored.
"""

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from channel.core.arrays import Array
from channel.core.errors import BadParameter
from channel.core.input_files import lines_of

_SEPARATORS: Final = {",": "commas", ";": "semicolons", "\t": "tabs"}


@dataclass(frozen=True, kw_only=True)
class CsvHeader:
    """The header line: the position of each wanted column, the number of fields, and the other names."""

    place: dict[str, int]
    fields: int
    others: tuple[str, ...]
    separator: str


def columns_of(path: Path, wanted: tuple[str, ...]) -> tuple[dict[str, Array], tuple[str, ...]]:
    """The wanted columns (rows,) by name, and the names of the other columns.

    Raises BadParameter, with the line, for a missing or duplicate column, a row whose number of fields
    differs from the header's, and a field that is not a finite number.
    """
    lines = lines_of(path)
    if not lines:
        raise BadParameter(f"{path.name} must have the columns {', '.join(wanted)}, got no line")
    header = _header(path, lines[0][1], wanted)
    rows = [_row(path, number, line, header) for number, line in lines[1:]]
    table = np.asarray(rows, dtype=np.float64).reshape(len(rows), len(wanted))
    return {name: table[:, column] for column, name in enumerate(header.place)}, header.others


def _header(path: Path, line: str, wanted: tuple[str, ...]) -> CsvHeader:
    cuts = {separator: _cut(path, line, separator) for separator in _SEPARATORS}
    separator = max(cuts, key=lambda one: sum(name.lower() in wanted for name in cuts[one]))
    names = [name.lower() for name in cuts[separator]]
    for name in wanted:
        if names.count(name) != 1:
            count = {0: "none"}.get(names.count(name), f"{names.count(name)} of them")
            raise BadParameter(
                f"{path.name} must have the columns {', '.join(wanted)} in its first line, "
                f"got {count} for {name} in {line[:80]!r}"
            )
    others = tuple(name for name in cuts[separator] if name.lower() not in wanted)
    place = {name: names.index(name) for name in wanted}
    return CsvHeader(place=place, fields=len(names), others=others, separator=separator)


def _row(path: Path, number: int, line: str, header: CsvHeader) -> list[float]:
    fields = _cut(path, line, header.separator)
    if len(fields) != header.fields:
        raise BadParameter(
            f"{path.name} must have {header.fields} fields in every line as in its first, "
            f"got {len(fields)} in line {number}{_why_more(len(fields), header)}"
        )
    return [_number(path, number, name, fields[place]) for name, place in header.place.items()]


def _why_more(fields: int, header: CsvHeader) -> str:
    is_more = fields > header.fields and header.separator == ","
    return "; a decimal comma counts as a separator, write 0.5 for 0,5" if is_more else ""


def _number(path: Path, number: int, name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        why = "; decimals need a point, write 0.5 for 0,5" if "," in text else ""
        raise BadParameter(
            f"{name} must be a finite number, got {text[:40]!r} in line {number} of {path.name}{why}"
        )
    return value


def _cut(path: Path, line: str, separator: str) -> list[str]:
    try:
        [fields] = csv.reader([line], delimiter=separator, skipinitialspace=True)
    except csv.Error as error:
        raise BadParameter(f"{path.name} must be a table of {_SEPARATORS[separator]}: {error}") from error
    return [field.strip() for field in fields]
