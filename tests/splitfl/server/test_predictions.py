"""Metrics of numbers and of several classes, by hand."""

import numpy as np
import pytest

from splitfl.server.predictions import Predictions


def test_several_classes_are_judged_by_their_f1() -> None:
    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 0, 0]], dtype=bool)
    predicted = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], dtype=bool)
    found = Predictions(loss=0.5, labels=labels, predicted=predicted).scores()
    assert found == pytest.approx({"eval_loss": 0.5, "micro_f1": 4 / 6, "f1": (2 / 3 + 2 / 3) / 2})


def test_a_prediction_that_never_changes_correlates_with_nothing() -> None:
    numbers, constant = np.arange(4, dtype=np.float32), np.ones(4, dtype=np.float32)
    assert Predictions(loss=1.0, labels=numbers, predicted=constant).scores()["pearson"] == 0.0


def test_a_language_model_is_judged_by_its_perplexity() -> None:
    found = Predictions(loss=2.0, labels=np.empty(0), predicted=np.empty(0)).scores()
    assert found == pytest.approx({"eval_loss": 2.0, "perplexity": np.exp(2.0)})
