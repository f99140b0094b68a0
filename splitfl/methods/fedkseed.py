"""`fedkseed`: no cut; all that has ever been learnt is one number for each of a pool of directions.

FedKSeed (Qin et al., ICML'24). The pool's directions never change, each step draws P of
them by its name, and the model is its start minus lr * sum of a_j u_j over the pool. The
sums a_j come down when a round begins: however many rounds a client missed, they are as
many bytes, and it does not matter in which order they were summed. The client is that of
`decomfl`. We depart from the paper in that indices need not be sent, and that a tensor
set which is trained in turn with another (RoLoRA) has sums of its own.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from channel.core.rng import stream
from splitfl.config import RunConfig, at_least, group
from splitfl.core.errors import WireError
from splitfl.core.messages import Begin, Done, Message, Scalars
from splitfl.core.state import State, number_in, tensor_in, whole
from splitfl.data.loader import Batches
from splitfl.methods import decomfl
from splitfl.methods.decomfl import DecomflClient
from splitfl.methods.parts import spec
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod, ServerReply, Turn, unexpected
from splitfl.methods.parts.perturbed_parameters import (
    Perturbation,
    PerturbedParameters,
    perturbed_parameters,
    values_of,
)
from splitfl.methods.parts.references import LORA, MEZO
from splitfl.methods.parts.zeroth_order_client import Estimate, ZerothOrderClient
from splitfl.models.cut import Piece


@dataclass(frozen=True, kw_only=True)
class FedkseedSettings:
    """`pool` is how many directions there are in all."""

    estimate: Estimate = group(Estimate)
    pool: int = 1024

    def __post_init__(self) -> None:
        at_least("method.pool", self.pool, 1)


class SeedPoolParameters:
    """A walk along the directions of a pool only, in sets of tensors that are trained together."""

    def __init__(self, perturbed: PerturbedParameters, seed: int, pool: int, lr: float) -> None:
        self.tensors = perturbed.tensors
        self._perturbed = perturbed
        self._seed = seed
        self._pool = pool
        self._lr = lr
        self._start = {name: tensor.clone() for name, tensor in perturbed.tensors.items()}
        first, second = perturbed.names(0), perturbed.names(1)
        self._sets: Sequence[Sequence[str]] = [first] if first == second else [first, second]

    @property
    def shape(self) -> tuple[int, int]:
        """Of the sums: sets of tensors, directions in the pool."""
        return len(self._sets), self._pool

    def pool_index(self, client: int, round_index: int, step: int, perturbation: int) -> tuple[int, int]:
        """The set that a round trains, and which of the pool a perturbation is."""
        chance = stream(self._seed, "pool", client, round_index, step, perturbation)
        return round_index % len(self._sets), int(chance.integers(self._pool))

    def draw(self, client: int, round_index: int, step: int, perturbation: int) -> Perturbation:
        """One direction of this client's step."""
        return self._pool_member(*self.pool_index(client, round_index, step, perturbation))

    def move(self, u: Perturbation, scale: float) -> None:
        """Adds `scale` times these directions."""
        self._perturbed.move(u, scale)

    def step(self, client: int, round_index: int, step: int, derivatives_P: Tensor) -> None:
        """One step of descent by these slopes."""
        for perturbation, derivative in enumerate(derivatives_P.tolist()):
            u = self.draw(client, round_index, step, perturbation)
            self.move(u, -self._lr / len(derivatives_P) * derivative)

    def replay(self, scalars: Scalars, version: int) -> int:
        """From the very start to where the sums say; `version` does not matter. Raises WireError."""
        if scalars.values.shape != self.shape:
            raise WireError(f"sums of {self.shape} were due, got {tuple(scalars.values.shape)}")
        for name, value in self._start.items():
            self.tensors[name].copy_(value)
        for index, sums in enumerate(scalars.values.tolist()):
            for member, total in enumerate(sums):
                if total:
                    self.move(self._pool_member(index, member), -self._lr * total)
        return scalars.round

    def extra_state(self) -> dict[str, Tensor]:
        """Nothing: the sums say all."""
        return {}

    def load_extra_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """None of these is memory."""
        return dict(tensors)

    def _pool_member(self, index: int, member: int) -> Perturbation:
        return self._perturbed.named_perturbation(self._sets[index], "pool", member)


class FedkseedServer:
    """Keeps the sums and walks along; has no model."""

    def __init__(self, perturbed: SeedPoolParameters, perturbations: int) -> None:
        self._perturbed = perturbed
        self._perturbations = perturbations
        self._version = 0
        self._sums = torch.zeros(perturbed.shape, dtype=torch.float64)
        self._received: list[tuple[Turn, Scalars]] = []

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        done = Done()
        match message:
            case Begin():
                is_behind = message.version < self._version
                return ServerReply(reply=self._state() if is_behind else done)
            case Scalars() if message.values.shape == (*message.steps, self._perturbations):
                return ServerReply(reply=done, losses=message.losses, samples=message.samples, change=message)
        raise unexpected("fedkseed", message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        if reply is not None and isinstance(reply.change, Scalars):
            self._received.append((turn, reply.change))

    def end_round(self, round_index: int) -> None:
        samples = sum(message.samples for _, message in self._received)
        for turn, message in self._received:
            share = message.samples / samples if samples else 0.0
            for step, derivatives in enumerate(message.values.tolist()):
                for perturbation, derivative in enumerate(derivatives):
                    index = self._perturbed.pool_index(turn.client, round_index, step, perturbation)
                    self._sums[index] += derivative * share / self._perturbations
        self._received = []
        self._version = self._perturbed.replay(self._state(round_index + 1), self._version)

    def trained(self) -> Mapping[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._perturbed.tensors.items()}

    def state(self) -> State:
        return {"sums": self._sums.clone(), "version": whole(self._version)}

    def restore(self, state: State) -> None:
        self._received = []
        self._sums = tensor_in(state, "sums").clone()
        self._version = number_in(state, "version")
        self._perturbed.replay(self._state(), self._version)

    def _state(self, version: int | None = None) -> Scalars:
        version = self._version if version is None else version
        return Scalars(round=version, values=self._sums.to(torch.float32), steps=())


def _parameters(piece: Piece, config: RunConfig) -> SeedPoolParameters:
    pool, train = config.method.of(FedkseedSettings).pool, config.train
    return SeedPoolParameters(perturbed_parameters(values_of(piece), config), train.seed, pool, train.head_lr)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side: that of `decomfl` along the directions of a pool."""
    whole = pieces.whole()
    zeroth_order = ZerothOrderClient(
        whole, batches.client, config.method.of(Estimate), _parameters(whole, config)
    )
    return DecomflClient(zeroth_order, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, which has no model."""
    return FedkseedServer(_parameters(pieces.whole(), config), config.method.of(Estimate).perturbations)


_FEDKSEED = """@inproceedings{qin2024federated,
  title = {Federated Full-Parameter Tuning of Billion-Sized Language Models with Communication Cost
    under 18 Kilobytes},
  author = {Qin, Zhen and Chen, Daoyuan and Qian, Bingchen and Ding, Bolin and Li, Yaliang and
    Deng, Shuiguang},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}"""

SPEC = dataclasses.replace(
    decomfl.SPEC,
    about="no cut: as decomfl along a pool of directions, so that one sum for each is the whole state",
    bibtex=(_FEDKSEED, MEZO, LORA),
    client=client,
    server=server,
    settings=FedkseedSettings,
    shared=spec.HEAD - {"train.head_schedule"},
)
