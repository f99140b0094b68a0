"""`fedkseed`: no cut; the trained model is one coefficient for each of a fixed pool of perturbations.

FedKSeed (Qin et al., ICML'24). Each step draws P perturbations from the pool, and the model is its initial
value minus lr * sum of a_j u_j over the pool. Clients receive the coefficients a_j at the start of a round:
the download has the same size however many rounds a client missed, and does not depend on the order of
summation. The client is that of `decomfl`. Departures from the paper: pool indices are derived from names and
not sent; sets of tensors that are trained in alternate rounds (RoLoRA) have coefficients of their own.
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
    """The gradient estimator, and the number of perturbations in the `pool`."""

    estimate: Estimate = group(Estimate)
    pool: int = 1024

    def __post_init__(self) -> None:
        at_least("method.pool", self.pool, 1)


class SeedPoolParameters:
    """Parameters updated along a fixed pool of perturbations, in sets of tensors trained together."""

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
        """The shape of the coefficients: sets of tensors, perturbations in the pool."""
        return len(self._sets), self._pool

    def pool_index(self, client: int, round_index: int, step: int, perturbation: int) -> tuple[int, int]:
        """The set of tensors trained in a round, and the pool index of a perturbation."""
        chance = stream(self._seed, "pool", client, round_index, step, perturbation)
        return round_index % len(self._sets), int(chance.integers(self._pool))

    def draw(self, client: int, round_index: int, step: int, perturbation: int) -> Perturbation:
        """The perturbation of this index in a client's step."""
        return self._pool_member(*self.pool_index(client, round_index, step, perturbation))

    def move(self, u: Perturbation, scale: float) -> None:
        """Adds scale * u in place."""
        self._perturbed.move(u, scale)

    def step(self, client: int, round_index: int, step: int, derivatives_P: Tensor) -> None:
        """One SGD step from directional derivatives (P,)."""
        for perturbation, derivative in enumerate(derivatives_P.tolist()):
            u = self.draw(client, round_index, step, perturbation)
            self.move(u, -self._lr / len(derivatives_P) * derivative)

    def replay(self, scalars: Scalars, version: int) -> int:
        """Sets the tensors from the coefficients alone, for any `version`; returns the next round.

        Raises WireError for coefficients of another shape.
        """
        if scalars.values.shape != self.shape:
            raise WireError(f"expected coefficients of shape {self.shape}, got {tuple(scalars.values.shape)}")
        for name, value in self._start.items():
            self.tensors[name].copy_(value)
        for index, sums in enumerate(scalars.values.tolist()):
            for member, total in enumerate(sums):
                if total:
                    self.move(self._pool_member(index, member), -self._lr * total)
        return scalars.round

    def extra_state(self) -> dict[str, Tensor]:
        """Empty: later steps depend on the tensors alone."""
        return {}

    def load_extra_state(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns all of the tensors."""
        return dict(tensors)

    def _pool_member(self, index: int, member: int) -> Perturbation:
        return self._perturbed.named_perturbation(self._sets[index], "pool", member)


class FedkseedServer:
    """Accumulates the coefficients of the pool and replays them; holds no model."""

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
    """The client's side: that of `decomfl` with the perturbations of a pool."""
    whole = pieces.whole()
    zeroth_order = ZerothOrderClient(
        whole, batches.client, config.method.of(Estimate), _parameters(whole, config)
    )
    return DecomflClient(zeroth_order, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, without a model."""
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
    about="no cut: as decomfl with a fixed pool of perturbations, one coefficient each is the whole state",
    bibtex=(_FEDKSEED, MEZO, LORA),
    client=client,
    server=server,
    settings=FedkseedSettings,
    shared=spec.HEAD - {"train.head_schedule"},
)
