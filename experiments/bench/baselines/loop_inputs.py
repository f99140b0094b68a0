"""The inputs of a plain loop: the run's pieces, batches and perturbations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from splitfl.adapters.inject import trainable
from splitfl.config import RunConfig
from splitfl.data.batch import Batch
from splitfl.methods.parts.perturbations import rademacher
from splitfl.models.cut import Piece
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader

Rounds = Iterator[list[float]]
"""Each `next` runs a round and yields its training losses, in order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LoopInputs:
    """Pieces, batches and perturbations of a run with one client; batches are precomputed."""

    config: RunConfig
    pieces: PieceLoader
    batches: tuple[Batch, ...]
    made: list[Piece] = field(default_factory=list)

    @classmethod
    def of(cls, experiment: Experiment) -> "LoopInputs":
        """For a plain loop of this experiment."""
        config, batches = experiment.config, experiment.batches(0)
        steps = config.federation.rounds * config.federation.local_steps
        return cls(
            config=config,
            pieces=PieceLoader(
                config=config,
                task=experiment.task,
                num_blocks=experiment.num_blocks,
                device=config.client.device,
            ),
            batches=tuple(batches.batch(step) for step in range(steps)),
        )

    def head(self) -> Piece:
        """The blocks below the cut."""
        return self._recorded(self.pieces.head())

    def body(self) -> Piece:
        """The blocks above the cut, up to the tail."""
        return self._recorded(self.pieces.body())

    def tail(self) -> Piece:
        """The last blocks, on the client."""
        return self._recorded(self.pieces.tail())

    def whole(self) -> Piece:
        """The unsplit model."""
        return self._recorded(self.pieces.whole())

    def auxiliary(self) -> Piece:
        """The auxiliary network, whose tensors are not part of the model."""
        return self.pieces.auxiliary()

    def rounds(self) -> Iterator[tuple[int, tuple[Batch, ...]]]:
        """Index and batches of every round."""
        steps = self.config.federation.local_steps
        for at in range(self.config.federation.rounds):
            yield at, self.batches[at * steps : (at + 1) * steps]

    def adamw(
        self, *pieces: Piece, of_body: int = 0, betas: tuple[float, float] = (0.9, 0.999)
    ) -> torch.optim.AdamW:
        """AdamW over the pieces' trainable tensors; the last `of_body` pieces have the body's rate."""
        train, first = self.config.train, len(pieces) - of_body
        groups = [
            {"params": list(trainable(piece).values()), "lr": train.head_lr if at < first else train.body_lr}
            for at, piece in enumerate(pieces)
        ]
        return torch.optim.AdamW(groups, betas=betas, weight_decay=0.0)

    def perturbations(self, *pieces: Piece) -> "Perturbations":
        """The run's perturbations over these pieces' trainable tensors."""
        tensors = [value.detach() for piece in pieces for value in trainable(piece).values()]
        return Perturbations(seed=self.config.train.seed, tensors=tensors)

    def trained(self) -> dict[str, Tensor]:
        """The trained tensors of the model's pieces, by name."""
        return {name: value.detach() for piece in self.made for name, value in trainable(piece).items()}

    def _recorded(self, piece: Piece) -> Piece:
        self.made.append(piece)
        return piece


@dataclass(frozen=True, kw_only=True)
class Perturbations:
    """Tensors and the seeded perturbations over them."""

    seed: int
    tensors: Sequence[Tensor]

    def draw(self, *name: str | int) -> list[Tensor]:
        """The perturbation of this name, in the tensors' shapes."""
        sizes = [tensor.numel() for tensor in self.tensors]
        parts = torch.split(rademacher(sum(sizes), self.seed, *name), sizes)
        return [part.view(tensor.shape) for part, tensor in zip(parts, self.tensors, strict=True)]

    def move(self, u: Sequence[Tensor], scale: float) -> None:
        """Adds scale * u to the tensors in place."""
        for tensor, direction_part in zip(self.tensors, u, strict=True):
            tensor.add_(direction_part, alpha=scale)

    def copy(self) -> list[Tensor]:
        """Copies of the tensors."""
        return [tensor.clone() for tensor in self.tensors]

    def put(self, values: Sequence[Tensor]) -> None:
        """Sets the tensors to these values."""
        for tensor, value in zip(self.tensors, values, strict=True):
            tensor.copy_(value)
