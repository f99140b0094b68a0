"""The step of which a piece computes a batch, from which random masks are drawn."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol


class TrainingRow(NamedTuple):
    """A row of a batch: the client, the round, its step there, and the client's number of the sample."""

    client: int
    round: int
    step: int
    sample: int


class BatchRows(Protocol):
    """A batch in training: the seed of the run, and what each row is."""

    @property
    def seed(self) -> int: ...

    @property
    def rows(self) -> Sequence[TrainingRow]: ...


@dataclass(frozen=True, kw_only=True)
class TrainingStep:
    """A client's step of a round, and the sample of each row of its batch (the client's `ids_B`)."""

    seed: int
    client: int
    round: int
    step: int
    ids: Sequence[int]

    @property
    def rows(self) -> list[TrainingRow]:
        """See BatchRows."""
        return [TrainingRow(self.client, self.round, self.step, sample) for sample in self.ids]

    def of(self, rows: slice) -> "TrainingStep":
        """The same step of these rows only."""
        return replace(self, ids=self.ids[rows])


@dataclass(frozen=True, kw_only=True)
class JointStep:
    """Steps of several clients, whose batches are the rows of one batch in this order."""

    steps: Sequence[TrainingStep]

    @property
    def seed(self) -> int:
        """The seed of the run."""
        return self.steps[0].seed

    @property
    def rows(self) -> list[TrainingRow]:
        """See BatchRows."""
        return [row for step in self.steps for row in step.rows]


class CurrentStep:
    """The step that a piece is computing; None outside training, where nothing is drawn."""

    def __init__(self) -> None:
        self.value: BatchRows | None = None


class _Stepping(Protocol):
    current_step: CurrentStep


@contextmanager
def training_step(step: BatchRows | None, *pieces: _Stepping) -> Iterator[None]:
    """The pieces compute this step within the context, in both passes; recomputed blocks too."""
    for piece in pieces:
        piece.current_step.value = step
    try:
        yield
    finally:
        for piece in pieces:
            piece.current_step.value = None
