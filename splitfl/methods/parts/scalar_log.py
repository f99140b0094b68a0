"""The server's log of the scalars that updated the clients' tensors, and the tensors that result.

A client that missed rounds receives their scalars, or the tensors where these are fewer numbers; with either
it has the same bits as all others.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from splitfl.adapters.inject import overwrite
from splitfl.config import RunConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import Adapter, Begin, Done, Message, Scalars
from splitfl.core.state import State, copied, listed, number_in, numbered, part, under, whole
from splitfl.methods.parts.method import ServerReply, Turn, unexpected
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, perturbed_parameters, values_of
from splitfl.models.cut import Piece


class ScalarLog:
    """Collects a round's directional derivatives, weights them by samples, and replays them.

    Since a step is linear in its derivatives, the result is the weighted mean of the clients' local updates.
    The scalars of old rounds are dropped once they are more numbers than the tensors.
    """

    def __init__(self, method: str, perturbed: PerturbedParameters, clients: int, perturbations: int) -> None:
        self._method = method
        self._perturbed = perturbed
        self._clients = clients
        self._perturbations = perturbations
        self._rounds: dict[int, tuple[Tensor, ...]] = {}
        self._version = 0
        self._derivatives: dict[int, dict[int, Tensor]] = {}
        self._samples: dict[int, int] = {}

    @classmethod
    def of(cls, piece: Piece, config: RunConfig, perturbations: int, *, is_sliced: bool) -> "ScalarLog":
        """From the clients' initial piece; only copies of its trained tensors on the CPU are kept."""
        start = {name: value.cpu() for name, value in values_of(piece).items()}
        perturbed = perturbed_parameters(start, config, is_sliced=is_sliced)
        return cls(config.method.name, perturbed, config.federation.clients, perturbations)

    def answer(self, turn: Turn, message: Message) -> ServerReply:
        """The reply to a Begin, with the scalars or tensors missed, and to an upload, which is its `change`.

        Raises WireError for other messages and for scalars of another shape than (steps, P).
        """
        done = Done()
        match message:
            case Begin():
                return ServerReply(reply=self.since(message.version) or done)
            case Scalars() if self._fits(message):
                return ServerReply(reply=done, losses=message.losses, samples=message.samples, change=message)
        raise unexpected(self._method, message)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """A snapshot of the clients' tensors after the last round."""
        return {name: tensor.clone() for name, tensor in self._perturbed.tensors.items()}

    def receive(self, client: int, step: int, derivatives_SP: Tensor, samples: int) -> None:
        """Adds a client's derivatives (S, P) of S steps from `step` on; ignored if `samples` is 0."""
        if samples:
            rows = {step + row: derivatives_P for row, derivatives_P in enumerate(derivatives_SP)}
            self._derivatives.setdefault(client, {}).update(rows)
            self._samples[client] = self._samples.get(client, 0) + samples

    def end_round(self) -> None:
        """Applies the derivatives received in this round; those lost count as zero."""
        total = sum(self._samples.values())
        parts = tuple(self._weighted(client, total) for client in range(self._clients))
        self._rounds[self._version] = parts
        self._version = self._perturbed.replay(self._scalars(self._version), self._version)
        self._derivatives, self._samples = {}, {}
        held = [*self._perturbed.tensors.values(), *self._perturbed.extra_state().values()]
        numbers = sum(tensor.numel() for tensor in held)
        while sum(part.numel() for parts in self._rounds.values() for part in parts) > numbers:
            del self._rounds[min(self._rounds)]

    def since(self, version: int) -> Scalars | Adapter | None:
        """The scalars or tensors that a client lacks after `version` rounds; None if it lacks none.

        Raises WireError for a version below 0 or above the number of rounds.
        """
        if not 0 <= version <= self._version:
            raise WireError(f"the version in a Begin must lie in 0..{self._version}, got {version}")
        if version == self._version:
            return None
        missed = range(version, self._version)
        names = sorted({name for at in missed for name in self._perturbed.names(at)})
        changed = {
            name: self._perturbed.tensors[name].clone() for name in names
        } | self._perturbed.extra_state()
        if version in self._rounds:
            scalars = self._scalars(version)
            if scalars.values.numel() <= sum(tensor.numel() for tensor in changed.values()):
                return scalars
        return Adapter(version=self._version, tensors=changed)

    def state(self) -> State:
        """The tensors, the number of rounds, and the scalars of those that can still be sent."""
        held: dict[str, Tensor] = {}
        for at, parts in self._rounds.items():
            held |= under(str(at), listed([{"slopes": derivatives_SP.clone()} for derivatives_SP in parts]))
        return {
            **under("value", copied(self._perturbed.tensors)),
            **under("round", held),
            **under("memory", copied(self._perturbed.extra_state())),
            "version": whole(self._version),
        }

    def restore(self, state: State) -> None:
        """Continues from this state; derivatives received since are dropped."""
        self._version = number_in(state, "version")
        overwrite(self._perturbed.tensors, part(state, "value"))
        self._perturbed.load_extra_state(part(state, "memory"))
        self._rounds = {
            at: tuple(client["slopes"] for client in numbered(parts).values())
            for at, parts in numbered(part(state, "round")).items()
        }
        self._derivatives, self._samples = {}, {}

    def _fits(self, message: Scalars) -> bool:
        values = message.values
        return values.dtype == torch.float32 and values.shape == (*message.steps, self._perturbations)

    def _weighted(self, client: int, total: int) -> Tensor:
        """(S, P): a client's derivatives times its share of the samples, zero for a lost step."""
        rows = self._derivatives.get(client, {})
        weighted_SP = torch.zeros(max(rows, default=-1) + 1, self._perturbations)
        for step, derivatives_P in rows.items():
            weighted_SP[step] = derivatives_P.to(torch.float64) * (self._samples[client] / total)
        return weighted_SP

    def _scalars(self, first: int) -> Scalars:
        parts = [part for at, row in self._rounds.items() if at >= first for part in row]
        return Scalars(round=first, values=torch.cat(parts), steps=tuple(len(part) for part in parts))
