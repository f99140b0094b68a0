"""What an attack returns: tokens, classes, clusters or scores, one for each observed sample."""

# S samples, T tokens, C classes

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenGuess:
    """The token (T,) int64 at each place of each sample, -1 for none; `facts` are further figures."""

    tokens: tuple[Tensor, ...]
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassGuess:
    """The class of each sample."""

    classes_S: Tensor

    def of(self, indices: Sequence[int]) -> "ClassGuess":
        """The guess of these samples alone."""
        return ClassGuess(classes_S=self.classes_S[indices])


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusterGuess:
    """The cluster of each sample; clusters have no class of their own."""

    clusters_S: Tensor

    def of(self, indices: Sequence[int]) -> "ClusterGuess":
        """The guess of these samples alone."""
        return ClusterGuess(clusters_S=self.clusters_S[indices])


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreGuess:
    """Scores, larger for samples likelier to be of a class: of each class, or of the rarest one (C = 1)."""

    scores_SC: Tensor

    def of(self, indices: Sequence[int]) -> "ScoreGuess":
        """The guess of these samples alone."""
        return ScoreGuess(scores_SC=self.scores_SC[indices])


Guess = TokenGuess | ClassGuess | ClusterGuess | ScoreGuess
