"""What is measured on held-out data: names, which way is better, and which one judges a run."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One figure: what people read, which of two is `better`, and whether it is a share of 1."""

    label: str
    better: Callable[..., Any] = max
    is_share: bool = False


METRICS: Final = {
    "accuracy": Metric(label="held-out accuracy", is_share=True),
    "pearson": Metric(label="held-out Pearson correlation"),
    "micro_f1": Metric(label="held-out micro F1", is_share=True),
    "perplexity": Metric(label="held-out perplexity", better=min),
    "macro_accuracy": Metric(label="held-out macro accuracy", is_share=True),
    "entity_f1": Metric(label="held-out entity F1", is_share=True),
    "f1": Metric(label="held-out macro F1", is_share=True),
    "mcc": Metric(label="held-out Matthews correlation"),
    "spearman": Metric(label="held-out Spearman correlation"),
    "eval_loss": Metric(label="held-out loss", better=min),
    "train_loss": Metric(label="training loss", better=min),
}

JUDGES: Final = ("accuracy", "pearson", "micro_f1", "perplexity")
"""Of these every kind of task measures one, and is judged by it."""
