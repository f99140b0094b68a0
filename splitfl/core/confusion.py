"""How often each class was taken for each other, and the figures that follow from it."""

# C classes

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """Of one class: its share among what was taken for it, and of it what was found; F1 is between both."""

    precision: float
    recall: float
    f1: float
    samples: int


def confusion_of(labels_N: Counts, predicted_N: Counts, num_classes: int) -> Counts:
    """(C, C) int64: samples by their class (row) and by what was predicted (column)."""
    counts_CC = np.zeros((num_classes, num_classes), dtype=np.int64)
    np.add.at(counts_CC, (labels_N, predicted_N), 1)
    return counts_CC


def as_triples(counts_CC: Counts) -> list[list[int]]:
    """[class, predicted, count] of every pair that occurs: what a file holds."""
    return [[int(row), int(column), int(counts_CC[row, column])] for row, column in np.argwhere(counts_CC)]


def of_triples(triples: Iterable[Sequence[int]], num_classes: int) -> Counts:
    """The matrix (C, C) that these were made of."""
    counts_CC = np.zeros((num_classes, num_classes), dtype=np.int64)
    for row, column, count in triples:
        counts_CC[row, column] = count
    return counts_CC


def by_class(counts_CC: Counts) -> list[ClassScores]:
    """Every class's scores; 0 where they would be 0 / 0."""
    right_C, real_C, predicted_C = counts_CC.diagonal(), counts_CC.sum(1), counts_CC.sum(0)
    return [
        ClassScores(
            precision=_ratio(right, predicted),
            recall=_ratio(right, real),
            f1=_ratio(2 * right, real + predicted),
            samples=int(real),
        )
        for right, real, predicted in zip(right_C, real_C, predicted_C, strict=True)
    ]


def summary(counts_CC: Counts) -> dict[str, float]:
    """`accuracy`, macro accuracy and macro F1, and Matthews's correlation.

    Macro accuracy is the mean recall of the classes that occur (balanced accuracy), macro F1 the mean over
    those that occur or were predicted. The correlation of more than two classes is R_K of Gorodkin
    (Computational Biology and Chemistry 28, 2004), 0 where all are of one class or taken for one.
    """
    scores = by_class(counts_CC)
    real_C, predicted_C = counts_CC.sum(1), counts_CC.sum(0)
    total, right = int(counts_CC.sum()), int(counts_CC.trace())
    seen = [one.recall for one in scores if one.samples]
    met = [one.f1 for one, real, said in zip(scores, real_C, predicted_C, strict=True) if real or said]
    spread = float(total**2 - (predicted_C**2).sum()) * float(total**2 - (real_C**2).sum())
    covariance = float(right * total - int((real_C * predicted_C).sum()))
    return {
        "accuracy": right / total,
        "macro_accuracy": sum(seen) / len(seen),
        "f1": sum(met) / len(met),
        "mcc": covariance / spread**0.5 if spread > 0 else 0.0,
    }


def micro_f1(counts_CC: Counts, outside: int) -> float:
    """F1 over all decisions for a class other than `outside`; 0 where there is none."""
    right = int(counts_CC.trace() - counts_CC[outside, outside])
    inside = np.arange(len(counts_CC)) != outside
    return _ratio(2 * right, int(counts_CC[inside].sum() + counts_CC[:, inside].sum()))


def _ratio(part: int, whole: int) -> float:
    return float(part / whole) if whole else 0.0
