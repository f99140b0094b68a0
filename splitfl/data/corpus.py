"""Rows of any source, with or without held-out rows of their own, made into two parts."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from splitfl.data.examples import HELD_OUT_ONE_IN, Examples, gather, split_held_out
from splitfl.data.pictures import Pictures
from splitfl.data.rows import BadRow, Row, Tally
from splitfl.errors import DataError


@dataclass(frozen=True)
class Part:
    """The rows of one file or one split, and what to call it in an error."""

    source: str
    rows: list[Row]


@dataclass(frozen=True, kw_only=True, eq=False)
class Corpus:
    """What to train on and what to measure on; no `label_names` where there are no labels."""

    train: Examples | Pictures
    held_out: Examples | Pictures
    label_names: tuple[str, ...]
    skipped_rows: int


def assemble(train: Part, held_out: Part | None, *, labelled: bool, tally: Tally) -> Corpus:
    """The corpus in these rows; without held-out rows the hash of the texts chooses them.

    Classes are numbered in the order of their sorted names, whole numbers as numbers.
    Raises DataError for a single class, a held-out label that training lacks, and too
    few rows to hold any out.
    """
    label_names = _label_names(train) if labelled else ()
    training = _examples(train.rows, label_names)
    if held_out is not None:
        known = tally.good(held_out.source, _known(held_out.rows, label_names))
        measured = _examples(known, label_names)
    else:
        training, measured = split_held_out(training)
        if not len(training) or not len(measured):
            raise DataError(
                f"{train.source} has {len(train.rows)} samples, too few to hold one in {HELD_OUT_ONE_IN} "
                "out; add samples, or give a folder with train and dev files"
            )
    return Corpus(train=training, held_out=measured, label_names=label_names, skipped_rows=tally.skipped)


def _label_names(part: Part) -> tuple[str, ...]:
    names = {row.label for row in part.rows}
    if len(names) < 2:
        raise DataError(f"{part.source} has one label only, {min(names)!r}; classification needs two or more")
    are_numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    return tuple(sorted(names, key=lambda name: (int(name) if are_numbers else 0, name)))


def _known(rows: Iterable[Row], label_names: tuple[str, ...]) -> Iterable[Row | BadRow]:
    for row in rows:
        if label_names and row.label not in label_names:
            known = ", ".join(label_names[:20]) + ", ..." * (len(label_names) > 20)
            yield BadRow(row.place, f"label {row.label!r} is none of the training data's: {known}")
        else:
            yield row


def _examples(rows: list[Row], label_names: tuple[str, ...]) -> Examples:
    number = {name: i for i, name in enumerate(label_names)}
    return gather(
        [row.text for row in rows],
        [number[row.label] for row in rows] if label_names else None,
        [row.group for row in rows],
    )
