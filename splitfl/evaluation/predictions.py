"""What a whole model says of held-out data, and how good that is."""

# B batch, T tokens, C classes, N samples (or tokens) that are measured

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr  # type: ignore[import-untyped]
from torch import Tensor, nn

from splitfl.core.confusion import Counts, confusion_of, micro_f1, summary
from splitfl.data.batch import Batch
from splitfl.data.loader import NOTHING_TO_PREDICT
from splitfl.evaluation.entities import entity_f1, is_iob


@dataclass(frozen=True, kw_only=True, eq=False)
class Predictions:
    """The mean loss, and what was predicted beside what is right.

    Both are (N,) int64 of classes, (N,) float32 of numbers, (N, C) bool where a sample has several classes;
    empty for a language model. `num_classes` is 0 where there are no classes, one each. `lengths` are the
    numbers of words of sentences whose words have classes.
    """

    loss: float
    labels: np.ndarray
    predicted: np.ndarray
    num_classes: int = 0
    lengths: tuple[int, ...] = ()

    @property
    def confusion(self) -> Counts | None:
        """(C, C) int64: samples by class and by prediction; None where they have not one class each."""
        if not self.num_classes:
            return None
        return confusion_of(self.labels, self.predicted, self.num_classes)

    def scores(self, tags: Sequence[str] = ()) -> dict[str, float]:
        """`eval_loss` and the metrics of this kind of task; see `splitfl.core.metrics`.

        `tags` are the names of the classes of words. If `O` is among them, micro F1 is over the others; if
        they follow IOB2, there is `entity_f1`.
        """
        counts = self.confusion
        if counts is not None:
            inside = {"micro_f1": micro_f1(counts, tags.index("O"))} if "O" in tags else {}
            if is_iob(tags):
                inside["entity_f1"] = entity_f1(self._sentences(tags))
            return {"eval_loss": self.loss, **summary(counts), **inside}
        if not self.labels.size:
            return {"eval_loss": self.loss, "perplexity": math.exp(min(self.loss, 700.0))}
        if self.labels.ndim == 1:
            return {"eval_loss": self.loss, **_correlations(self.labels, self.predicted)}
        return {"eval_loss": self.loss, **_several(self.labels, self.predicted)}

    def _sentences(self, tags: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
        ends = np.cumsum(self.lengths)[:-1]
        sides = (np.split(one, ends) for one in (self.labels, self.predicted))
        for labels, predicted in zip(*sides, strict=True):
            yield [tags[one] for one in labels], [tags[one] for one in predicted]


def predict(
    model: nn.Module, held_out: Iterable[Batch], device: torch.device, *, tokens_have_classes: bool = False
) -> Predictions:
    """The predictions of a whole model; its loss is the mean over all that is predicted."""
    loss_sum, counted = 0.0, 0
    labels: list[Tensor] = []
    predicted: list[Tensor] = []
    num_classes, lengths = 0, list[int]()
    with torch.inference_mode():
        for batch in held_out:
            moved = batch.to(device)
            output = model(**moved.inputs, labels=moved.labels)
            count = len(moved.labels)
            if moved.labels.is_floating_point():
                is_each = moved.labels.ndim == 1
                labels.append(moved.labels if is_each else moved.labels > 0.5)
                predicted.append(output.logits.float()[:, 0] if is_each else output.logits > 0)
            elif moved.labels.ndim == 1:
                num_classes = output.logits.shape[-1]
                labels.append(moved.labels)
                predicted.append(output.logits.argmax(-1))
            elif tokens_have_classes:
                num_classes = output.logits.shape[-1]
                is_real_BT = moved.labels != NOTHING_TO_PREDICT
                labels.append(moved.labels[is_real_BT])
                predicted.append(output.logits.argmax(-1)[is_real_BT])
                lengths += is_real_BT.sum(-1).tolist()
                count = int(is_real_BT.sum())
            else:
                predicted_BT = moved.labels if batch.has_answers else moved.labels[:, 1:]
                count = int((predicted_BT != NOTHING_TO_PREDICT).sum())
            loss_sum += output.loss.item() * count
            counted += count
    return Predictions(
        loss=loss_sum / counted,
        labels=_joined(labels),
        predicted=_joined(predicted),
        num_classes=num_classes,
        lengths=tuple(lengths),
    )


def _joined(parts: list[Tensor]) -> np.ndarray:
    return torch.cat(parts).cpu().numpy() if parts else np.empty(0)


def _correlations(labels_N: np.ndarray, predicted_N: np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's correlation, 0 where either side is one number throughout."""
    if np.ptp(labels_N) == 0 or np.ptp(predicted_N) == 0 or not np.isfinite(predicted_N).all():
        return {"pearson": 0.0, "spearman": 0.0}
    found = {"pearson": pearsonr, "spearman": spearmanr}
    return {name: float(of(labels_N, predicted_N).statistic) for name, of in found.items()}


def _several(labels_NC: np.ndarray, predicted_NC: np.ndarray) -> dict[str, float]:
    """F1 over all decisions, and its mean over the classes that occur or were predicted."""
    right_C = (labels_NC & predicted_NC).sum(0)
    either_C = labels_NC.sum(0) + predicted_NC.sum(0)
    met = either_C > 0
    micro = float(2 * right_C.sum() / either_C.sum()) if met.any() else 0.0
    macro = float((2 * right_C[met] / either_C[met]).mean()) if met.any() else 0.0
    return {"micro_f1": micro, "f1": macro}
