"""Names of classes: who numbers them, which do not fit, and which look like a mistake in the data."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from splitfl.core.errors import DataError

_MISSING = {"nan", "none", "null", "n/a", "na", "<na>"}
_MANY = 5
"""A file of a few rows may well have as many classes as rows."""


@dataclass(frozen=True, kw_only=True)
class CheckpointClasses:
    """The classes that a checkpoint names, by number; `is_trained` where it holds a classifier for them."""

    names: tuple[str, ...]
    is_trained: bool

    @property
    def is_unnamed(self) -> bool:
        """Whether these are only the numbers that transformers puts in place of names."""
        return all(name == f"LABEL_{number}" for number, name in enumerate(self.names))


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """Class names by number, the number of each label of the data, and who decided."""

    names: tuple[str, ...]
    numbers: Mapping[str, int]
    decided_by: str


def numbered_by_name(labels: Iterable[str]) -> tuple[str, ...]:
    """Different labels in order: whole numbers as numbers, anything else as text."""
    names = set(labels)
    are_numbers = all(_is_whole(name) for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if are_numbers else 0, name)))


def numbered_by_checkpoint(labels: tuple[str, ...], checkpoint: CheckpointClasses) -> Numbering | None:
    """How a checkpoint numbers these labels; None where it leaves that to the data.

    Raises DataError where it holds a classifier for classes of other names.
    """
    names, known = checkpoint.names, set(checkpoint.names)
    if set(labels) == known or (checkpoint.is_trained and set(labels) < known):
        numbers = {name: names.index(name) for name in labels}
        return Numbering(names=names, numbers=numbers, decided_by="numbered by the checkpoint")
    if not checkpoint.is_trained:
        return None
    if all(_is_whole(label) and 0 <= int(label) < len(names) for label in labels):
        shown = tuple(map(str, range(len(names)))) if checkpoint.is_unnamed else names
        numbers = {label: int(label) for label in labels}
        return Numbering(names=shown, numbers=numbers, decided_by="numbers of the checkpoint's classes")
    if checkpoint.is_unnamed:
        return None
    raise DataError(
        f"the data's labels are {_listed(labels)} and the checkpoint has a classifier for {_listed(names)}, "
        "in that order. If they mean the same classes, name the data's labels in that order in task.labels; "
        "otherwise take a checkpoint without a classifier for other classes"
    )


def refuse_unlikely(source: str, counts: Mapping[str, int]) -> None:
    """Raises DataError for labels that are no classes: one only, decimals, lists, nearly one for each row."""
    if len(counts) < 2:
        raise DataError(f"{source} has one label only, {min(counts)!r}; classification needs two or more")
    if all(map(_is_number, counts)) and (decimal := [name for name in counts if _is_fraction(name)]):
        raise DataError(
            f"{source}: the label {decimal[0]!r} is a decimal number; classification needs names of classes"
        )
    if several := _several_in_one(counts):
        raise DataError(
            f"{source}: the label {several!r} is several labels in one; a text has one label here"
        )
    rows = sum(counts.values())
    if len(counts) > _MANY and 2 * len(counts) > rows:
        raise DataError(
            f"{source} has {len(counts)} different labels in {rows} rows, for example {min(counts)!r:.60}: "
            "they are hardly classes. Name the right columns in task.text_column and task.label_column, by "
            "number (1, 2) where there is no header"
        )


def near_twins(names: Iterable[str]) -> list[str]:
    """A sentence about each group of names that differ only in spelling, and about each missing label."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_essence(name), []).append(name)
    said = [
        f"the classes {' and '.join(ascii(name) for name in group)} differ only in how they are written"
        for group in alike.values()
        if len(group) > 1
    ]
    missing = [name for group in alike.values() for name in group if name.casefold() in _MISSING]
    return said + [f"the class {name!r} looks like a missing label" for name in missing]


def _several_in_one(counts: Mapping[str, int]) -> str | None:
    """A label that is made of others, or of numbers, with a separator between them."""
    parts = {name: [part.strip() for part in re.split(r"[,;|]", name)] for name in counts}
    used = [part for own in parts.values() for part in dict.fromkeys(own)]
    for name, own in parts.items():
        if len(own) > 1 and all(part and (_is_whole(part) or used.count(part) > 1) for part in own):
            return name
    return None


def _essence(name: str) -> str:
    """What is left of a name without its case, its Unicode form, invisible characters and a number's form."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    plain = " ".join(plain.split())
    return repr(float(plain)) if _is_number(plain) else plain


def _is_whole(name: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", name) is not None


def _is_number(name: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", name) is not None


def _is_fraction(name: str) -> bool:
    return not float(name).is_integer()


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:20])) + ", ..." * (len(names) > 20)
