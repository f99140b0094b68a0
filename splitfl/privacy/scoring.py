"""Scores guesses against the truth, with bootstrap intervals and the score of a constant guess."""

# S samples, T tokens, C classes

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]
from scipy.stats import rankdata  # type: ignore[import-untyped]
from torch import Tensor

from channel.core.rng import stream
from splitfl.privacy.guess import ClassGuess, ClusterGuess, Guess, ScoreGuess, TokenGuess

_RESAMPLES = 200
_FREQUENT = 100
"""Tokens outside this number of most frequent public ones are rare."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Truth:
    """The tokens (T,) of each sample at its places, or the classes of all; `frequent` are public tokens."""

    tokens: Sequence[Tensor] = ()
    classes_S: Tensor | None = None
    frequent: frozenset[int] = frozenset()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One figure; see `Leak`."""

    metric: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None
    chance: float | None = None


def most_frequent(tokens: Sequence[Tensor]) -> frozenset[int]:
    """The most frequent of these tokens; all others are rare."""
    counts = Counter(chain.from_iterable(one.tolist() for one in tokens))
    return frozenset(token for token, _ in counts.most_common(_FREQUENT))


def measures(guess: Guess, truth: Truth) -> list[Measure]:
    """All measures of a guess; none where nothing was observed."""
    if isinstance(guess, TokenGuess):
        return list(_of_tokens(guess, truth)) if truth.tokens else []
    assert truth.classes_S is not None
    if not len(truth.classes_S):
        return []
    if isinstance(guess, ScoreGuess):
        return list(_of_scores(guess.scores_SC, truth.classes_S, truth.seed))
    found = guess.classes_S if isinstance(guess, ClassGuess) else _matched(guess, truth.classes_S)
    return [_of_classes(found, truth)]


def _of_tokens(guess: TokenGuess, truth: Truth) -> Iterator[Measure]:
    constant = Counter(chain.from_iterable(one.tolist() for one in truth.tokens)).most_common(1)[0][0]
    hits = [(found == one).float() for found, one in zip(guess.tokens, truth.tokens, strict=True)]
    constants = [(one == constant).float() for one in truth.tokens]
    yield _share("token_recovery", hits, constants, truth.seed)
    is_rare = [
        torch.tensor([token not in truth.frequent for token in one.tolist()], dtype=torch.bool)
        for one in truth.tokens
    ]
    if any(bool(mask.any()) for mask in is_rare):
        rare = [hit[mask] for hit, mask in zip(hits, is_rare, strict=True)]
        rarely = [hit[mask] for hit, mask in zip(constants, is_rare, strict=True)]
        yield _share("rare_token_recovery", rare, rarely, truth.seed)
    whole = [hit.min()[None] for hit in hits if len(hit)]
    always = [hit.min()[None] for hit in constants if len(hit)]
    yield _share("text_recovery", whole, always, truth.seed)
    for name, value in guess.facts.items():
        yield Measure(metric=name, value=value, n=sum(map(len, truth.tokens)))


def _of_classes(found_S: Tensor, truth: Truth) -> Measure:
    assert truth.classes_S is not None
    constant = Counter(truth.classes_S.tolist()).most_common(1)[0][0]
    hits, constants = (found_S == truth.classes_S).float(), (truth.classes_S == constant).float()
    return _share("label_accuracy", list(hits[:, None]), list(constants[:, None]), truth.seed)


def _matched(guess: ClusterGuess, classes_S: Tensor) -> Tensor:
    """The class of each sample if each cluster stands for the class that makes most of them right."""
    size = 1 + int(max(guess.clusters_S.max(), classes_S.max()))
    counts = np.zeros((size, size))
    np.add.at(counts, (guess.clusters_S.numpy(), classes_S.numpy()), 1)
    _, class_of = linear_sum_assignment(-counts)
    return torch.from_numpy(class_of)[guess.clusters_S]


def _of_scores(scores_SC: Tensor, classes_S: Tensor, seed: int) -> Iterator[Measure]:
    """The mean AUC of each observed class against the others, or that of the rarest one."""
    counts = Counter(classes_S.tolist())
    if len(counts) < 2:
        return
    rarest = min(counts, key=lambda label: (counts[label], label))
    columns = {rarest: 0} if scores_SC.shape[1] == 1 else {label: label for label in counts}
    scores, classes = scores_SC.double().numpy(), classes_S.numpy()

    def value(chosen: npt.NDArray[np.int64]) -> float:
        found = [_auc(scores[chosen, column], classes[chosen] == label) for label, column in columns.items()]
        return float(np.nanmean(found)) if not all(map(np.isnan, found)) else float("nan")

    low, high = _interval(value, len(classes), seed)
    whole = value(np.arange(len(classes)))
    yield Measure(metric="label_auc", value=whole, n=len(classes), low=low, high=high, chance=0.5)


def _auc(scores: Numbers, positive: npt.NDArray[np.bool_]) -> float:
    """The probability that a positive sample has a higher score than a negative one; NaN without either."""
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return float("nan")
    ranks = rankdata(scores)
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def _share(metric: str, hits: Sequence[Tensor], constants: Sequence[Tensor], seed: int) -> Measure:
    """The share of ones among all values, which belong together sample by sample."""
    right = np.array([float(one.sum()) for one in hits])
    counts = np.array([len(one) for one in hits], dtype=np.float64)

    def value(chosen: npt.NDArray[np.int64]) -> float:
        total = counts[chosen].sum()
        return float(right[chosen].sum() / total) if total else float("nan")

    low, high = _interval(value, len(hits), seed)
    return Measure(
        metric=metric,
        value=value(np.arange(len(hits))),
        n=int(counts.sum()),
        low=low,
        high=high,
        chance=float(sum(float(one.sum()) for one in constants) / counts.sum()),
    )


def _interval(
    value: Callable[[npt.NDArray[np.int64]], float], samples: int, seed: int
) -> tuple[float, float]:
    """The 2.5 and 97.5 percentiles of the value over samples drawn with replacement."""
    rng = stream(seed, "leak-interval")
    found = [value(rng.integers(0, samples, samples)) for _ in range(_RESAMPLES)]
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return float(low), float(high)
