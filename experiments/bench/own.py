"""What a loop written by hand starts with: the run's own pieces, batches and directions, and nothing else."""

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
"""Each `next` plays a round and gives its training losses, in order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Own:
    """Of a run with one client; all batches are made beforehand."""

    config: RunConfig
    pieces: PieceLoader
    batches: tuple[Batch, ...]
    made: list[Piece] = field(default_factory=list)

    @classmethod
    def of(cls, site: Experiment) -> "Own":
        """Of the run of these settings."""
        config, batches = site.config, site.batches(0)
        steps = config.federation.rounds * config.federation.local_steps
        return cls(
            config=config,
            pieces=PieceLoader(
                config=config, task=site.task, num_blocks=site.num_blocks, device=config.client.device
            ),
            batches=tuple(batches.batch(step) for step in range(steps)),
        )

    def head(self) -> Piece:
        """What is below the cut."""
        return self._kept(self.pieces.head())

    def body(self) -> Piece:
        """What is above it, up to the tail."""
        return self._kept(self.pieces.body())

    def tail(self) -> Piece:
        """The client's other end."""
        return self._kept(self.pieces.tail())

    def whole(self) -> Piece:
        """The model, not cut."""
        return self._kept(self.pieces.whole())

    def auxiliary(self) -> Piece:
        """A stand-in for the body, of which the model knows nothing."""
        return self.pieces.auxiliary()

    def rounds(self) -> Iterator[tuple[int, tuple[Batch, ...]]]:
        """Every round's number and batches."""
        steps = self.config.federation.local_steps
        for at in range(self.config.federation.rounds):
            yield at, self.batches[at * steps : (at + 1) * steps]

    def adamw(self, *pieces: Piece, of_body: int = 0) -> torch.optim.AdamW:
        """Over what these pieces train: at the head's rate, the last `of_body` of them at the body's."""
        train, first = self.config.train, len(pieces) - of_body
        groups = [
            {"params": list(trainable(piece).values()), "lr": train.head_lr if at < first else train.body_lr}
            for at, piece in enumerate(pieces)
        ]
        return torch.optim.AdamW(groups, weight_decay=0.0)

    def signs(self, *pieces: Piece) -> "Signs":
        """Moves what these pieces train along the run's directions."""
        tensors = [value.detach() for piece in pieces for value in trainable(piece).values()]
        return Signs(seed=self.config.train.seed, tensors=tensors)

    def trained(self) -> dict[str, Tensor]:
        """What the model's own pieces have come to."""
        return {name: value.detach() for piece in self.made for name, value in trainable(piece).items()}

    def _kept(self, piece: Piece) -> Piece:
        self.made.append(piece)
        return piece


@dataclass(frozen=True, kw_only=True)
class Signs:
    """Tensors and the directions over them."""

    seed: int
    tensors: Sequence[Tensor]

    def draw(self, *name: str | int) -> list[Tensor]:
        """The direction of this name, in the tensors' shapes."""
        sizes = [tensor.numel() for tensor in self.tensors]
        parts = torch.split(rademacher(sum(sizes), self.seed, *name), sizes)
        return [part.view(tensor.shape) for part, tensor in zip(parts, self.tensors, strict=True)]

    def move(self, u: Sequence[Tensor], scale: float) -> None:
        """Goes to theta + scale * u."""
        for tensor, signs in zip(self.tensors, u, strict=True):
            tensor.add_(signs, alpha=scale)

    def copy(self) -> list[Tensor]:
        """Where the tensors stand."""
        return [tensor.clone() for tensor in self.tensors]

    def put(self, values: Sequence[Tensor]) -> None:
        """Back to where they stood."""
        for tensor, value in zip(self.tensors, values, strict=True):
            tensor.copy_(value)
