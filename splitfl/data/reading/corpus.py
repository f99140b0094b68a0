"""Rows of any source, with or without held-out rows of their own, made into two parts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from splitfl.core.errors import DataError
from splitfl.data.classes import Numbering, numbered_by_name, refuse_unlikely
from splitfl.data.examples import HELD_OUT_ONE_IN, Examples, Ints, gather, split_held_out
from splitfl.data.reading.file_formats import BadRow
from splitfl.data.reading.forms import Form
from splitfl.data.reading.rows import Part, Row, Tally
from splitfl.data.samples import Samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """What to train on and what to measure on; no `label_names` where there are no labels.

    `sources` says of each file or split what was read, `numbered` who decided the classes' numbers.
    """

    train: Samples
    held_out: Samples
    label_names: tuple[str, ...]
    skipped_rows: int = 0
    sources: tuple[str, ...] = ()
    numbered: str = ""

    def renumbered(self, numbering: Numbering) -> Self:
        """The same with other numbers for its classes."""
        lookup = np.array([numbering.numbers[name] for name in self.label_names], dtype=np.int64)
        return replace(
            self,
            train=_relabelled(self.train, lookup, len(numbering.names)),
            held_out=_relabelled(self.held_out, lookup, len(numbering.names)),
            label_names=numbering.names,
            numbered=numbering.decided_by,
        )


def assemble(
    train: Part, held_out: Part | None, *, form: Form, tally: Tally, labels: tuple[str, ...] = ()
) -> Corpus:
    """The corpus in these rows; without held-out rows the hash of the texts chooses them.

    Classes are numbered as `labels` are, if given, else as the data set itself does, else in the order
    of their sorted names, whole numbers as numbers. Raises DataError for labels that are no classes, for
    one that `labels`, or training, lacks, and too few rows to hold any out.
    """
    names, numbered = _numbered(train, form, labels) if form.has_classes else ((), "")
    training = _examples(_known(train, names, tally, "this run's" if labels else ""), form, names)
    if held_out is not None:
        whose = "this run's" if labels else "the training data's"
        measured = _examples(_known(held_out, names, tally, whose), form, names)
    else:
        training, measured = split_held_out(training)
        if not len(training) or not len(measured):
            raise DataError(
                f"{train.source} has {len(train.rows)} samples, too few to hold one in {HELD_OUT_ONE_IN} "
                "out; add samples, or give a folder with train and dev files"
            )
    return Corpus(
        train=training,
        held_out=measured,
        label_names=names,
        skipped_rows=tally.skipped,
        sources=tuple(_described(part) for part in (train, held_out) if part is not None),
        numbered=numbered,
    )


def to_measure(part: Part, *, form: Form, tally: Tally, labels: tuple[str, ...]) -> Corpus:
    """All these rows to measure on, with the classes of a run, and nothing to train on."""
    measured = _examples(_known(part, labels, tally, "this run's"), form, labels)
    return Corpus(
        train=measured.first(1).take(np.empty(0, dtype=np.int64)),
        held_out=measured,
        label_names=labels,
        skipped_rows=tally.skipped,
        sources=(_described(part),),
    )


def _numbered(train: Part, form: Form, labels: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    if labels:
        return labels, "numbered by task.labels"
    if train.classes:
        return train.classes, "numbered by the data set"
    counts = Counter(name for row in train.rows for name in _classes_of(row))
    if form.labels == "class":
        refuse_unlikely(train.source, counts)
    elif len(counts) < 2:
        raise DataError(f"{train.source} has {len(counts)} classes; classification needs two or more")
    return numbered_by_name(counts), "numbered by name"


def _known(part: Part, names: tuple[str, ...], tally: Tally, whose: str) -> list[Row]:
    """The rows of classes that there are; the others are malformed."""
    if not names or not whose:
        return part.rows
    known = ", ".join(names[:20]) + ", ..." * (len(names) > 20)

    def checked() -> Iterable[Row | BadRow]:
        for row in part.rows:
            unknown = [name for name in _classes_of(row) if name not in names]
            reason = f"label {unknown[0]!r} is none of {whose}: {known}" if unknown else ""
            yield BadRow(row.place, reason) if unknown else row

    return tally.good(part.source, checked())


def _classes_of(row: Row) -> tuple[str, ...]:
    return row.label if isinstance(row.label, tuple) else (str(row.label),)


def _examples(rows: list[Row], form: Form, label_names: tuple[str, ...]) -> Examples:
    texts, groups = [row.text for row in rows], [row.group for row in rows]
    number: Mapping[str, int] = {name: i for i, name in enumerate(label_names)}
    if form.labels == "number":
        return gather(texts, np.array([row.label for row in rows], dtype=np.float32), groups)
    if not label_names or form.labels == "tags":  # which are numbered where they become tokens
        return gather(texts, None, groups)
    numbers = [[number[name] for name in _classes_of(row)] for row in rows]
    if form.labels == "class":
        return gather(texts, np.array([own[0] for own in numbers], dtype=np.int64), groups)
    several = np.zeros((len(rows), len(label_names)), dtype=np.float32)
    for row, own in zip(several, numbers, strict=True):
        row[own] = 1.0
    return gather(texts, several, groups)


def _described(part: Part) -> str:
    return f"{part.source}: {len(part.rows):,} rows, {part.columns}"


def _relabelled(samples: Samples, lookup: Ints, num_classes: int) -> Samples:
    """The same with classes of other numbers; a class of its own column where a sample may have several."""
    if samples.labels is None:
        return samples
    if samples.labels.ndim == 1:
        return replace(samples, labels=lookup[samples.labels])
    moved = np.zeros((len(samples), num_classes), dtype=samples.labels.dtype)
    moved[:, lookup] = samples.labels
    return replace(samples, labels=moved)
