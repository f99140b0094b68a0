"""Rows of any source, with or without held-out rows of their own, made into two parts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from splitfl.core.errors import DataError
from splitfl.data.classes import Numbering, numbered_by_name, refuse_unlikely
from splitfl.data.examples import HELD_OUT_ONE_IN, Examples, gather, split_held_out
from splitfl.data.file_formats import BadRow
from splitfl.data.forms import Form
from splitfl.data.pictures import Pictures
from splitfl.data.rows import Part, Row, Tally


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """What to train on and what to measure on; no `label_names` where there are no labels.

    `sources` says of each file or split what was read, `numbered` who decided the classes' numbers.
    """

    train: Examples | Pictures
    held_out: Examples | Pictures
    label_names: tuple[str, ...]
    skipped_rows: int = 0
    sources: tuple[str, ...] = ()
    numbered: str = ""

    def renumbered(self, numbering: Numbering) -> Self:
        """The same with other numbers for its classes."""
        lookup = np.array([numbering.numbers[name] for name in self.label_names], dtype=np.int64)
        return replace(
            self,
            train=_relabelled(self.train, lookup),
            held_out=_relabelled(self.held_out, lookup),
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
    names, numbered = _numbered(train, labels) if form.is_labelled else ((), "")
    training = _examples(_known(train, names, tally, "this run's" if labels else ""), names)
    if held_out is not None:
        whose = "this run's" if labels else "the training data's"
        measured = _examples(_known(held_out, names, tally, whose), names)
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


def to_measure(part: Part, *, tally: Tally, labels: tuple[str, ...]) -> Corpus:
    """All these rows to measure on, with the classes of a run, and nothing to train on."""
    measured = _examples(_known(part, labels, tally, "this run's"), labels)
    return Corpus(
        train=measured.first(1).take(np.empty(0, dtype=np.int64)),
        held_out=measured,
        label_names=labels,
        skipped_rows=tally.skipped,
        sources=(_described(part),),
    )


def _numbered(train: Part, labels: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    if labels:
        return labels, "numbered by task.labels"
    counts = Counter(row.label for row in train.rows)
    if train.classes:
        return train.classes, "numbered by the data set"
    refuse_unlikely(train.source, counts)
    return numbered_by_name(counts), "numbered by name"


def _known(part: Part, names: tuple[str, ...], tally: Tally, whose: str) -> list[Row]:
    """The rows of classes that there are; the others are malformed."""
    if not names or not whose:
        return part.rows
    known = ", ".join(names[:20]) + ", ..." * (len(names) > 20)

    def checked() -> Iterable[Row | BadRow]:
        for row in part.rows:
            reason = f"label {row.label!r} is none of {whose}: {known}"
            yield row if row.label in names else BadRow(row.place, reason)

    return tally.good(part.source, checked())


def _examples(rows: list[Row], label_names: tuple[str, ...]) -> Examples:
    number: Mapping[str, int] = {name: i for i, name in enumerate(label_names)}
    return gather(
        [row.text for row in rows],
        [number[row.label] for row in rows] if label_names else None,
        [row.group for row in rows],
    )


def _described(part: Part) -> str:
    return f"{part.source}: {len(part.rows):,} rows, {part.columns}"


def _relabelled(samples: Examples | Pictures, lookup: "np.ndarray") -> Examples | Pictures:
    assert samples.labels is not None
    return replace(samples, labels=lookup[samples.labels])
