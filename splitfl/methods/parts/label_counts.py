"""The labels of each sample that a model's mean loss is over."""

# B batch, T tokens

import torch
from torch import Tensor

from splitfl.data.loader import NOTHING_TO_PREDICT
from splitfl.models.families import SEQ2SEQ_LM


def are_token_labels(labels: Tensor) -> bool:
    """Whether labels are (B, T) of tokens; those of several classes per sample are floating-point."""
    return labels.ndim > 1 and not labels.is_floating_point()


def label_counts(labels: Tensor, kind: str) -> Tensor:
    """(B,) the labels of each sample that enter the mean loss of a batch, for a model of this `kind`.

    Labels are (B,) classes or numbers, (B, C) float32 for several classes per sample (which count as one), or
    (B, T) int64 tokens, whose first position has no label: a language model predicts the first token from
    none, and token classification starts with a special token. Of an encoder-decoder (`kind` seq2seq-lm)
    every position has one. Every sample has a label to predict: the loader drops others.
    """
    if not are_token_labels(labels):
        return torch.ones(len(labels))
    predicted = labels if kind == SEQ2SEQ_LM else labels[:, 1:]
    return (predicted != NOTHING_TO_PREDICT).sum(1)
