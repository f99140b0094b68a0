"""The step of which a piece computes a batch, from which random masks are drawn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """A client's step of a round, and the sample of each row of its batch (the client's `ids_B`)."""

    seed: int
    client: int
    round: int
    step: int
    ids: Sequence[int]

    def of(self, rows: slice) -> "TrainingStep":
        """The same step of these rows only."""
        return replace(self, ids=self.ids[rows])


class CurrentStep:
    """The step that a piece is computing; None outside training, where nothing is drawn."""

    def __init__(self) -> None:
        self.value: TrainingStep | None = None


class _Stepping(Protocol):
    current_step: CurrentStep


@contextmanager
def training_step(step: TrainingStep | None, *pieces: _Stepping) -> Iterator[None]:
    """The pieces compute this step within the context, in both passes; recomputed blocks too."""
    for piece in pieces:
        piece.current_step.value = step
    try:
        yield
    finally:
        for piece in pieces:
            piece.current_step.value = None
