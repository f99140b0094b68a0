"""Tensors that move along named directions, so that scalars are all that must be sent to follow them.

A move is theta + scale * u with u of +-1, applied one direction at a time: scale * u is
exact, so a move rounds once, and whoever repeats the moves in the same order holds the
same bits, on whatever device.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

import torch
from torch import Tensor

from splitfl.adapters.inject import trainable
from splitfl.adapters.residuals import above
from splitfl.config import RunConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import Scalars
from splitfl.core.state import part, under
from splitfl.federation.aggregators import Aggregator, aggregator
from splitfl.federation.server_optimiser import ServerOptimiser, server_optimiser
from splitfl.methods.parts.parameter_slices import Slice
from splitfl.methods.parts.perturbations import direction
from splitfl.methods.parts.rates import Decay, constant, head_decay
from splitfl.methods.parts.scalar_replay import Replays, key_of
from splitfl.models.cut import Piece

_REPLAYS: Final = Replays()
_OPTIMISER: Final = "optimiser"

Directions = Mapping[str, Tensor]
"""A sign for every element of every tensor that a round trains, by the tensor's name."""


class Steps(Protocol):
    """Tensors that move along directions; see Walk."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What moves."""

    def draw(self, client: int, round_index: int, step: int, perturbation: int) -> Directions:
        """One direction of this client's step."""

    def move(self, directions: Directions, scale: float) -> None:
        """Adds `scale` times these directions."""

    def step(self, client: int, round_index: int, step: int, slopes_P: Tensor) -> None:
        """One step of descent by these slopes."""

    def replay(self, scalars: Scalars, version: int) -> int:
        """Goes where all clients have gone since `version`; returns the round to come."""

    def memory(self) -> dict[str, Tensor]:
        """What beside the tensors decides where the next steps lead, by names of its own."""

    def remember(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Takes what is memory among these tensors; hands back the others."""


class PerturbedParameters:
    """The clients' trained tensors by name, moved in place, with `lr` as the length of a step.

    A step has P slopes v_p, the loss's derivatives along its directions u_p, and goes by
    -lr / P * sum of v_p u_p: stochastic gradient descent with the estimated gradient.
    In a round lr is multiplied by that round's `decay`. Directions are of no more than `rank` ranks of LoRA,
    if that says how many. Where all clients' steps of a round have been made,
    an `optimiser` of the server's may take what they come to for a gradient: whoever replays makes its step
    too, with the same bits on devices of one kind.
    """

    def __init__(
        self,
        tensors: Mapping[str, Tensor],
        aggregator: Aggregator,
        seed: int,
        clients: int,
        lr: float,
        decay: Decay = constant,
        optimiser: ServerOptimiser | None = None,
        *,
        is_sliced: bool = False,
    ) -> None:
        """Where it `is_sliced`, each client's directions are of its slice of the adapters alone."""
        self.tensors = tensors
        self.rank: int | None = None
        self._is_sliced = is_sliced
        self._aggregator = aggregator
        self._seed = seed
        self._clients = clients
        self._lr = lr
        self._decay = decay
        self._optimiser = optimiser

    def names(self, round_index: int) -> list[str]:
        """The tensors that this round trains."""
        return [name for name in self.tensors if self._aggregator.trains(name, round_index)]

    def draw(self, client: int, round_index: int, step: int, perturbation: int) -> Directions:
        """One direction of this client's step."""
        names = self.names(round_index)
        if self._is_sliced:
            own = Slice(self._aggregator, list(self.tensors), client, self._clients)
            names = [name for name in names if own.trains(name, round_index)]
        directions = self.along(names, client, round_index, step, perturbation)
        for still in [] if self.rank is None else above(directions, self.rank):
            still.zero_()
        return directions

    def along(self, names: Sequence[str], *name: str | int) -> Directions:
        """The direction of this name over some tensors, in their shapes and on their device."""
        moving = {one: self.tensors[one] for one in names}
        sizes = [tensor.numel() for tensor in moving.values()]
        parts = torch.split(direction(sum(sizes), self._seed, *name), sizes)
        return {
            one: part.view(tensor.shape).to(tensor.device)
            for (one, tensor), part in zip(moving.items(), parts, strict=True)
        }

    def move(self, directions: Directions, scale: float) -> None:
        """Adds `scale` times these directions."""
        with torch.no_grad():
            for name, signs in directions.items():
                self.tensors[name].add_(signs, alpha=scale)

    def step(self, client: int, round_index: int, step: int, slopes_P: Tensor) -> None:
        """One step of descent by these slopes; a slope of zero is no move."""
        lr = self._lr * self._decay(round_index)
        for perturbation, slope in enumerate(slopes_P.tolist()):
            if slope:
                self.move(self.draw(client, round_index, step, perturbation), -lr / len(slopes_P) * slope)

    def replay(self, scalars: Scalars, version: int) -> int:
        """Makes all clients' steps of one or more rounds from `version` on; returns the round to come.

        Raises WireError for scalars of other rounds, and for those that do not say whose they are.
        """
        rows, steps = len(scalars.values), scalars.steps
        if scalars.round != version:
            raise WireError(f"scalars from round {version} on were due, got round {scalars.round}")
        if len(steps) % self._clients or rows != sum(steps):
            raise WireError(f"{rows} rows of scalars came for {self._clients} clients, said to be {steps}")
        rounds = range(scalars.round, scalars.round + len(steps) // self._clients)
        key = key_of({**self.tensors, **self.memory(), "scalars": scalars.values}, steps, self.ways(rounds))
        if (end := _REPLAYS.found(key)) is not None:
            with torch.no_grad():
                for name, value in self.remember(end).items():
                    self.tensors[name].copy_(value)
            return rounds.stop
        values = iter(scalars.values)
        for later, round_index in enumerate(rounds):
            taken = {
                (client, step): next(values)
                for client, count in enumerate(steps[later * self._clients :][: self._clients])
                for step in range(count)
            }
            self.round(round_index, taken)
        _REPLAYS.keep(key, {**self.tensors, **self.memory()})
        return rounds.stop

    def ways(self, rounds: Iterable[int]) -> tuple[object, ...]:
        """All that decides, beside tensors and slopes, where the steps of these rounds lead."""
        each = ((at, self._lr * self._decay(at), tuple(self.names(at))) for at in rounds)
        moved_by = self._optimiser.name if self._optimiser is not None else ""
        return type(self).__name__, self._seed, self._clients, self._is_sliced, moved_by, *each

    def round(self, round_index: int, taken: Mapping[tuple[int, int], Tensor]) -> None:
        """All clients' steps of a round: their slopes by client and step, in order."""
        names = self.names(round_index)
        before = {name: self.tensors[name].clone() for name in names} if self._optimiser is not None else {}
        for (client, step), slopes_P in taken.items():
            self.step(client, round_index, step, slopes_P)
        if self._optimiser is not None and taken:
            for name, value in self._optimiser.step(before, {n: self.tensors[n] for n in names}).items():
                self.tensors[name].copy_(value)

    def memory(self) -> dict[str, Tensor]:
        """What the server's optimiser remembers: without one the next steps depend on the tensors alone."""
        return under(_OPTIMISER, self._optimiser.state()) if self._optimiser is not None else {}

    def remember(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Takes the optimiser's memory among these tensors; hands back the others."""
        if self._optimiser is None:
            return dict(tensors)
        self._optimiser.restore(
            {name: value.to(self._device) for name, value in part(tensors, _OPTIMISER).items()}
        )
        return {name: value for name, value in tensors.items() if not name.startswith(f"{_OPTIMISER}.")}

    @property
    def _device(self) -> torch.device:
        return next(iter(self.tensors.values())).device


def values_of(piece: Piece) -> dict[str, Tensor]:
    """A piece's trained tensors, to be moved in place."""
    return {name: value.detach() for name, value in trainable(piece).items()}


def walk(
    tensors: Mapping[str, Tensor], config: RunConfig, lr: float | None = None, *, is_sliced: bool = False
) -> PerturbedParameters:
    """The walk that every node of a run makes alike, from these tensors on; None: at `train.head_lr`."""
    federation, train = config.federation, config.train
    rule = aggregator(federation.aggregator)
    moved_by = server_optimiser(federation.server_optimiser, federation.server_lr)
    return PerturbedParameters(
        tensors,
        rule,
        train.seed,
        federation.clients,
        lr or train.head_lr,
        head_decay(config),
        moved_by,
        is_sliced=is_sliced,
    )
