"""Parameters updated along seeded perturbations, replayable from scalars.

An update is theta + scale * u with u of +-1, one perturbation at a time: scale * u is exact, so each update
rounds once, and every node that applies the same updates in the same order has the same bits, on any device.
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
from splitfl.methods.parts.optimiser import Decay, constant, head_decay
from splitfl.methods.parts.parameter_slices import Slice
from splitfl.methods.parts.perturbations import rademacher
from splitfl.methods.parts.scalar_replay import Replays, key_of
from splitfl.models.cut import Piece

_REPLAYS: Final = Replays()
_OPTIMISER: Final = "optimiser"

Perturbation = Mapping[str, Tensor]
"""One perturbation direction u: a sign for each element of each perturbed tensor, by name."""


class ReplayableParameters(Protocol):
    """Parameters updated along seeded perturbations; see `PerturbedParameters`."""

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The perturbed tensors, by name; updated in place."""

    def draw(self, client: int, round_index: int, step: int, perturbation: int) -> Perturbation:
        """The perturbation of this index in a client's step."""

    def move(self, u: Perturbation, scale: float) -> None:
        """Adds scale * u in place."""

    def step(self, client: int, round_index: int, step: int, derivatives_P: Tensor) -> None:
        """One gradient step of a client from its directional derivatives (P,)."""

    def replay(self, scalars: Scalars, version: int) -> int:
        """Applies the steps of all clients since `version`; returns the next round."""

    def extra_state(self) -> dict[str, Tensor]:
        """The state besides the tensors that later steps depend on, by names of its own."""

    def load_extra_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Restores the extra state among these tensors; returns the others."""


class PerturbedParameters:
    """The clients' trained tensors by name, updated in place by SGD with estimated gradients.

    A step is -lr / P * sum of v_p u_p, where v_p are the directional derivatives of the loss along the
    perturbations u_p; lr is multiplied by the round's `decay`. If `rank` is set, only the first `rank` ranks
    of LoRA are perturbed. With a server `optimiser`, the sum of a round's steps is its pseudo-gradient
    (Reddi et al., ICLR'21); replays include its step, with the same bits on devices of one kind.
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
        """If `is_sliced`, each client perturbs only its slice of the adapters (see `parameter_slices`)."""
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
        """The names of the tensors trained in this round."""
        return [name for name in self.tensors if self._aggregator.trains(name, round_index)]

    def draw(self, client: int, round_index: int, step: int, perturbation: int) -> Perturbation:
        """The perturbation of this index in a client's step."""
        names = self.names(round_index)
        if self._is_sliced:
            own = Slice(self._aggregator, list(self.tensors), client, self._clients)
            names = [name for name in names if own.trains(name, round_index)]
        u = self.named_perturbation(names, client, round_index, step, perturbation)
        for frozen in [] if self.rank is None else above(u, self.rank):
            frozen.zero_()
        return u

    def named_perturbation(self, names: Sequence[str], *name: str | int) -> Perturbation:
        """The perturbation with a name in the random stream, in the shapes and on the device of `names`."""
        perturbed = {one: self.tensors[one] for one in names}
        sizes = [tensor.numel() for tensor in perturbed.values()]
        parts = torch.split(rademacher(sum(sizes), self._seed, *name), sizes)
        return {
            one: part.view(tensor.shape).to(tensor.device)
            for (one, tensor), part in zip(perturbed.items(), parts, strict=True)
        }

    def move(self, u: Perturbation, scale: float) -> None:
        """Adds scale * u in place."""
        with torch.no_grad():
            for name, signs in u.items():
                self.tensors[name].add_(signs, alpha=scale)

    def step(self, client: int, round_index: int, step: int, derivatives_P: Tensor) -> None:
        """One SGD step from directional derivatives (P,); one of exactly zero is skipped."""
        lr = self._lr * self._decay(round_index)
        for perturbation, derivative in enumerate(derivatives_P.tolist()):
            if derivative:
                self.move(
                    self.draw(client, round_index, step, perturbation), -lr / len(derivatives_P) * derivative
                )

    def replay(self, scalars: Scalars, version: int) -> int:
        """Applies all clients' steps of one or more rounds from `version` on; returns the next round.

        Raises WireError for scalars of other rounds and for inconsistent numbers of rows.
        """
        rows, steps = len(scalars.values), scalars.steps
        if scalars.round != version:
            raise WireError(f"expected scalars from round {version} on, got round {scalars.round}")
        if len(steps) % self._clients or rows != sum(steps):
            raise WireError(
                f"expected scalars of {self._clients} clients with {steps} steps, got {rows} rows"
            )
        rounds = range(scalars.round, scalars.round + len(steps) // self._clients)
        key = key_of(
            {**self.tensors, **self.extra_state(), "scalars": scalars.values}, steps, self.replay_key(rounds)
        )
        if (end := _REPLAYS.found(key)) is not None:
            with torch.no_grad():
                for name, value in self.load_extra_state(end).items():
                    self.tensors[name].copy_(value)
            return rounds.stop
        values = iter(scalars.values)
        for later, round_index in enumerate(rounds):
            derivatives = {
                (client, step): next(values)
                for client, count in enumerate(steps[later * self._clients :][: self._clients])
                for step in range(count)
            }
            self.round(round_index, derivatives)
        _REPLAYS.keep(key, {**self.tensors, **self.extra_state()})
        return rounds.stop

    def replay_key(self, rounds: Iterable[int]) -> tuple[object, ...]:
        """The settings that the steps of these rounds depend on, besides tensors and derivatives."""
        each = ((at, self._lr * self._decay(at), tuple(self.names(at))) for at in rounds)
        optimiser = self._optimiser.name if self._optimiser is not None else ""
        return type(self).__name__, self._seed, self._clients, self._is_sliced, optimiser, *each

    def round(self, round_index: int, derivatives: Mapping[tuple[int, int], Tensor]) -> None:
        """Applies all clients' steps of a round: their derivatives (P,) by client and step, in order."""
        names = self.names(round_index)
        before = {name: self.tensors[name].clone() for name in names} if self._optimiser is not None else {}
        for (client, step), derivatives_P in derivatives.items():
            self.step(client, round_index, step, derivatives_P)
        if self._optimiser is not None and derivatives:
            for name, value in self._optimiser.step(before, {n: self.tensors[n] for n in names}).items():
                self.tensors[name].copy_(value)

    def extra_state(self) -> dict[str, Tensor]:
        """The state of the server's optimiser; empty without one."""
        return under(_OPTIMISER, self._optimiser.state()) if self._optimiser is not None else {}

    def load_extra_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Restores the optimiser's state among these tensors; returns the others."""
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
    """A piece's trained tensors, detached, sharing their storage."""
    return {name: value.detach() for name, value in trainable(piece).items()}


def perturbed_parameters(
    tensors: Mapping[str, Tensor], config: RunConfig, lr: float | None = None, *, is_sliced: bool = False
) -> PerturbedParameters:
    """These tensors with the seed, aggregator and schedule of a run; `lr` None is `train.head_lr`."""
    federation, train = config.federation, config.train
    rule = aggregator(federation.aggregator)
    optimiser = server_optimiser(federation.server_optimiser, federation.server_lr)
    return PerturbedParameters(
        tensors,
        rule,
        train.seed,
        federation.clients,
        lr or train.head_lr,
        head_decay(config),
        optimiser,
        is_sliced=is_sliced,
    )
