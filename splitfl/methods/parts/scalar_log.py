"""The server's memory of what moved the clients' tensors, and what they have become of it.

A client that missed something gets the scalars of the rounds it lacks, or the tensors
themselves where these are fewer numbers: after either it holds the same bits.
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
from splitfl.methods.parts.server_model import BodyStep
from splitfl.models.cut import Piece


class ScalarLog:
    """Collects a round's slopes, weighs each client's by its samples, and walks as all clients will.

    Because a step is linear in its slopes, this is the very mean of the clients' own walks.
    The scalars of old rounds are dropped once the tensors are cheaper to send.
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
        """From a piece as the clients first hold it; nothing but its trained tensors is kept."""
        start = {name: value.cpu() for name, value in values_of(piece).items()}
        return cls.along(perturbed_parameters(start, config, is_sliced=is_sliced), config, perturbations)

    @classmethod
    def along(cls, perturbed: PerturbedParameters, config: RunConfig, perturbations: int) -> "ScalarLog":
        """Of a run, along directions of the method's own."""
        return cls(config.method.name, perturbed, config.federation.clients, perturbations)

    def answer(self, turn: Turn, message: Message) -> ServerReply:
        """To a client that begins, what it lacks; to one that sends its slopes in, thanks.

        Raises WireError for anything else.
        """
        done = Done()
        match message:
            case Begin():
                return ServerReply(reply=self.since(message.version) or done)
            case Scalars() if self._fits(message):
                return ServerReply(reply=done, losses=message.losses, samples=message.samples, change=message)
        raise unexpected(self._method, message)

    def take(self, turn: Turn, reply: ServerReply | None) -> BodyStep | None:
        """Keeps the slopes that came in; hands back the step that came instead, if one did."""
        change = reply.change if reply is not None else None
        if isinstance(change, Scalars):
            self.receive(turn.client, 0, change.values, change.samples)
            return None
        assert change is None or isinstance(change, BodyStep)
        return change

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """The clients' tensors after the last round, a snapshot."""
        return {name: tensor.clone() for name, tensor in self._perturbed.tensors.items()}

    def receive(self, client: int, step: int, derivatives_SP: Tensor, samples: int) -> None:
        """One client's slopes of one or more steps from `step` on; without samples they say nothing."""
        if samples:
            rows = {step + row: derivatives_P for row, derivatives_P in enumerate(derivatives_SP)}
            self._derivatives.setdefault(client, {}).update(rows)
            self._samples[client] = self._samples.get(client, 0) + samples

    def end_round(self) -> None:
        """The slopes that came move the tensors; what was lost moves nobody's."""
        total = sum(self._samples.values())
        parts = tuple(self._weighed(client, total) for client in range(self._clients))
        self._rounds[self._version] = parts
        self._version = self._perturbed.replay(self._scalars(self._version), self._version)
        self._derivatives, self._samples = {}, {}
        held = [*self._perturbed.tensors.values(), *self._perturbed.extra_state().values()]
        numbers = sum(tensor.numel() for tensor in held)
        while sum(part.numel() for parts in self._rounds.values() for part in parts) > numbers:
            del self._rounds[min(self._rounds)]

    def since(self, version: int) -> Scalars | Adapter | None:
        """What a client lacks that has seen so many rounds; None where it lacks nothing.

        Raises WireError for rounds that have not been.
        """
        if not 0 <= version <= self._version:
            raise WireError(f"a client says it has seen {version} rounds; there were {self._version}")
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
        """The tensors, the rounds there were, and the scalars of those that can still be sent."""
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
        """See Stateful; slopes that have come since are forgotten."""
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

    def _weighed(self, client: int, total: int) -> Tensor:
        """(S, P): a client's slopes times its share of the samples, zero for a step that was lost."""
        rows = self._derivatives.get(client, {})
        weighed_SP = torch.zeros(max(rows, default=-1) + 1, self._perturbations)
        for step, derivatives_P in rows.items():
            weighed_SP[step] = derivatives_P.to(torch.float64) * (self._samples[client] / total)
        return weighed_SP

    def _scalars(self, first: int) -> Scalars:
        parts = [part for at, row in self._rounds.items() if at >= first for part in row]
        return Scalars(round=first, values=torch.cat(parts), steps=tuple(len(part) for part in parts))
