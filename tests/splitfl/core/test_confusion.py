"""Figures of a confusion matrix against their definitions, worked by hand."""

import math

import numpy as np
import pytest

from splitfl.core.confusion import as_triples, by_class, confusion_of, of_triples, summary

LABELS = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 0, 1])
COUNTS = np.array([[2, 1, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0]])


def test_rows_are_classes_and_columns_predictions() -> None:
    assert np.array_equal(confusion_of(LABELS, PREDICTED, 4), COUNTS)


def test_a_matrix_survives_its_triples() -> None:
    triples = as_triples(COUNTS)
    assert triples == [[0, 0, 2], [0, 1, 1], [1, 0, 1], [1, 1, 1], [2, 1, 1]]
    assert np.array_equal(of_triples(triples, 4), COUNTS)


def test_each_class_has_precision_recall_and_f1() -> None:
    first, second, third, absent = by_class(COUNTS)
    assert (first.precision, first.recall, first.f1, first.samples) == pytest.approx((2 / 3, 2 / 3, 2 / 3, 3))
    assert (second.precision, second.recall, second.f1) == pytest.approx((1 / 3, 1 / 2, 2 / 5))
    assert (third.precision, third.recall, third.f1, third.samples) == (0.0, 0.0, 0.0, 1)
    assert absent.samples == 0


def test_means_are_over_the_classes_that_occur() -> None:
    found = summary(COUNTS)
    assert found["accuracy"] == 3 / 6
    assert found["macro_accuracy"] == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert found["f1"] == pytest.approx((2 / 3 + 2 / 5 + 0) / 3)


def test_the_correlation_of_two_classes_is_matthews() -> None:
    tp, fp, fn, tn = 6, 2, 1, 9
    expected = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert summary(np.array([[tn, fp], [fn, tp]]))["mcc"] == pytest.approx(expected)


def test_the_correlation_of_several_classes_is_that_of_their_indicators() -> None:
    """R_K is the covariance of the one-hot labels and predictions, over classes, over their spreads."""
    labels, predicted = (np.eye(3)[values] for values in (LABELS, PREDICTED))
    centred = [values - values.mean(0) for values in (labels, predicted)]
    covariance = (centred[0] * centred[1]).sum()
    spreads = math.sqrt((centred[0] ** 2).sum() * (centred[1] ** 2).sum())
    assert summary(COUNTS)["mcc"] == pytest.approx(covariance / spreads)


def test_one_prediction_for_all_correlates_with_nothing() -> None:
    assert summary(np.array([[3, 0], [2, 0]]))["mcc"] == 0.0
