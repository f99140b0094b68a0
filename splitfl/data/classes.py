"""Class names: numbering by data or checkpoint, mismatches, and likely mistakes in the data."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from splitfl.core.errors import DataError

_MISSING = {"nan", "none", "null", "n/a", "na", "<na>"}
_MANY = 5
"""Up to this number, a small file may have as many classes as rows."""


@dataclass(frozen=True, kw_only=True)
class CheckpointClasses:
    """The class names of a checkpoint by index; `is_trained` if it holds a classifier for them."""

    names: tuple[str, ...]
    is_trained: bool

    @property
    def is_unnamed(self) -> bool:
        """Whether the names are transformers' default names, LABEL_0 and so on."""
        return all(name == f"LABEL_{number}" for number, name in enumerate(self.names))


@dataclass(frozen=True, kw_only=True)
class Numbering:
    """Class names by index, the index of each label of the data, and the origin of the numbering."""

    names: tuple[str, ...]
    numbers: Mapping[str, int]
    decided_by: str


def numbered_by_name(labels: Iterable[str]) -> tuple[str, ...]:
    """The distinct labels, sorted as numbers if all are whole numbers, else as strings."""
    names = set(labels)
    are_numbers = all(_is_whole(name) for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if are_numbers else 0, name)))


def numbered_by_checkpoint(labels: tuple[str, ...], checkpoint: CheckpointClasses) -> Numbering | None:
    """The numbering of these labels by a checkpoint; None if the checkpoint does not determine it.

    Raises DataError if the checkpoint has a classifier for classes with other names.
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
        f"the data's labels are {_listed(labels)} but the checkpoint has a classifier for {_listed(names)}, "
        "in that order. If they mean the same classes, list the data's labels in that order in task.labels; "
        "otherwise use a checkpoint without a classifier for other classes"
    )


def refuse_unlikely(source: str, counts: Mapping[str, int]) -> None:
    """Raises DataError for a single label, decimals, lists, or nearly as many labels as rows."""
    if len(counts) < 2:
        raise DataError(f"{source} has one label only, {min(counts)!r}; classification needs two or more")
    if all(map(_is_number, counts)) and (decimal := [name for name in counts if _is_fraction(name)]):
        raise DataError(
            f"{source}: the label {decimal[0]!r} is a decimal number; classification needs names of classes"
        )
    if several := several_in_one(counts):
        raise DataError(
            f"{source}: the label {several!r} is several labels in one; a text has one label here"
        )
    rows = sum(counts.values())
    if len(counts) > _MANY and 2 * len(counts) > rows:
        raise DataError(
            f"{source} has {len(counts)} different labels in {rows} rows, for example {min(counts)!r:.60}: "
            "these are unlikely to be classes. Set the right columns in task.text_column and "
            "task.label_column, by number (1, 2) without a header"
        )


def near_twins(names: Iterable[str]) -> list[str]:
    """A warning for each group of names that differ only in spelling, and for each missing label."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(_normalised(name), []).append(name)
    said = [
        f"the classes {' and '.join(ascii(name) for name in group)} differ only in spelling"
        for group in alike.values()
        if len(group) > 1
    ]
    missing = [name for group in alike.values() for name in group if name.casefold() in _MISSING]
    return said + [f"the class {name!r} looks like a missing label" for name in missing]


def several_in_one(counts: Mapping[str, int]) -> str | None:
    """A label that consists of other labels, or of numbers, with separators; None without any."""
    parts = {name: [part.strip() for part in re.split(r"[,;|]", name)] for name in counts}
    used = [part for own in parts.values() for part in dict.fromkeys(own)]
    for name, own in parts.items():
        if len(own) > 1 and all(part and (_is_whole(part) or used.count(part) > 1) for part in own):
            return name
    return None


def _normalised(name: str) -> str:
    """A name normalised in case, Unicode form, white space, invisible characters and number format."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    plain = " ".join(plain.split())
    return repr(float(plain) + 0.0) if _is_number(plain) else plain  # -0.0 + 0.0 is 0.0


def _is_whole(name: str) -> bool:
    return re.fullmatch(r"-?[0-9]{1,18}", name) is not None


def _is_number(name: str) -> bool:
    return re.fullmatch(r"[-+]?[0-9]+(\.[0-9]*)?([eE][-+]?[0-9]+)?", name) is not None


def _is_fraction(name: str) -> bool:
    return not float(name).is_integer()


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:20])) + ", ..." * (len(names) > 20)
