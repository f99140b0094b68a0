"""`mu-splitfed`: zeroth order on both sides, a scalar reply, several server steps per client step.

MU-SplitFed (Liang et al., NeurIPS'25, arXiv 2510.21155). Per step the client sends its hidden state at theta,
theta + mu u and theta - mu u; the server takes `method.server_steps` zeroth-order steps at the first, each
with a perturbation of its own (central differences), and replies with the central difference of its new loss
between the other two. Client adapters are averaged once a round. Departures from the paper: one body is
trained on all clients in turn, as in `sfl-v2`, not one per client with averaging; perturbations are signs.
"""

# B batch, T tokens, D hidden, N real tokens of a batch

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from splitfl.accounting.flops import answers_in, cost
from splitfl.adapters.inject import overwrite
from splitfl.config import RunConfig, above, at_least
from splitfl.core.messages import Activation, Adapter, Message, Reply, Scalars
from splitfl.core.state import State, copied, part, under
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import aggregator
from splitfl.methods.hybrid import hidden_of
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.directional_derivatives import central_difference, evaluate_at
from splitfl.methods.parts.forward_mode import Function
from splitfl.methods.parts.method import (
    ClientMethod,
    ClientRound,
    Pieces,
    ServerMethod,
    ServerReply,
    Turn,
    unexpected,
)
from splitfl.methods.parts.optimiser import body_decay
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, perturbed_parameters, values_of
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.zeroth_order_client import refuse_distance
from splitfl.models.cut import Piece
from splitfl.models.token_rows import unpack


@dataclass(frozen=True, kw_only=True)
class MuSettings:
    """Both sides perturb by `mu` per element; the server takes `server_steps` steps per client step."""

    mu: float = 1e-3
    server_steps: int = 1

    def __post_init__(self) -> None:
        above("method.mu", self.mu, 0.0)
        at_least("method.server_steps", self.server_steps, 1)


class MuClient:
    """Runs the head forward three times a step; `perturbed` holds the trainer's own tensors."""

    def __init__(
        self, trainer: ClientTrainer, perturbed: PerturbedParameters, batches: Batches, steps: int, mu: float
    ) -> None:
        self._trainer = trainer
        self._perturbed = perturbed
        self._batches = batches
        self._num_steps = steps
        self._mu = mu
        self.take_flops = trainer.take_flops
        self.state = trainer.state
        self.restore = trainer.restore

    def round(self, round_index: int) -> ClientRound:
        return self._trainer.round(round_index, self._num_steps + 1, self._steps(round_index))

    def _steps(self, round_index: int) -> Generator[Message, Reply, int]:
        trainer, samples, client = self._trainer, 0, self._batches.client
        for step in range(self._num_steps):
            batch = self._batches.batch(round_index * self._num_steps + step).to(trainer.piece.model.device)
            context = trainer.piece.context_of(batch.inputs)
            evaluate = partial(self._evaluate, hidden_of(batch, context), batch.shape)
            u = self._perturbed.draw(client, round_index, step, 0)
            both_sides = (evaluate_at(self._perturbed, u, scale, evaluate) for scale in (self._mu, -self._mu))
            hidden = torch.stack([evaluate(), *both_sides])
            reply = yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels)
            if isinstance(reply, Scalars):  # if it is lost, this step alone is skipped
                self._perturbed.step(client, round_index, step, reply.values[0])
                samples += len(batch.ids_B)
        return samples

    def _evaluate(self, forward: Function, shape: torch.Size) -> Tensor:
        self._trainer.flops += self._trainer.cost(shape).forward_flops
        with torch.no_grad():
            return forward(self._trainer.piece)


@dataclass(frozen=True, kw_only=True, eq=False)
class _BodyUpdate:
    tensors: dict[str, Tensor]


class MuServer:
    """Trains the body with forward passes, one message at a time; averages the clients' adapters."""

    def __init__(
        self,
        piece: Piece,
        perturbed: PerturbedParameters,
        client_adapters: ClientAdapters,
        *,
        steps: int,
        mu: float,
        lr: Callable[[int], float],
    ) -> None:
        """`walk` moves the piece's own trainable tensors, in a round at its `lr`."""
        self._piece = piece
        self._perturbed = perturbed
        self._client_adapters = client_adapters
        self._steps = steps
        self._mu = mu
        self._lr = lr

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return self._train_step(turn, message)
        return self._client_adapters.answer(turn, message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._client_adapters.receive(change)
        if isinstance(change, _BodyUpdate):
            overwrite(self._perturbed.tensors, change.tensors)

    def end_round(self, round_index: int) -> None:
        self._client_adapters.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._client_adapters.tensors | self._body()

    def state(self) -> State:
        return under("body", copied(self._perturbed.tensors)) | under("heads", self._client_adapters.state())

    def restore(self, state: State) -> None:
        overwrite(self._perturbed.tensors, part(state, "body"))
        self._client_adapters.restore(part(state, "heads"))

    def _train_step(self, turn: Turn, message: Activation) -> ServerReply:
        assert message.hidden is not None
        assert message.labels is not None
        if len(message.hidden) != 3:
            raise unexpected("mu-splitfed", message)
        device, mask = self._piece.model.device, message.context.get("mask")
        device_context = {name: tensor.to(device) for name, tensor in message.context.items()}
        hidden_BTD, *both_sides = (unpack(hidden, mask).to(device) for hidden in message.hidden)
        labels = message.labels.to(device)

        def loss(hidden_BTD: Tensor) -> Tensor:
            with torch.no_grad():
                value = self._piece(hidden_BTD, device_context, labels).loss
            assert isinstance(value, Tensor)
            return value

        first, before = loss(hidden_BTD), self._body()
        names = self._perturbed.names(turn.round)
        for step in range(self._steps):
            u = self._perturbed.named_perturbation(names, "server", turn.client, turn.round, turn.lap, step)
            derivative = central_difference(self._perturbed, u, self._mu, lambda: loss(hidden_BTD)).item()
            self._perturbed.move(u, -self._lr(turn.round) * derivative)
        above, below = (loss(perturbed_BTD).double() for perturbed_BTD in both_sides)
        updated = self._body()
        overwrite(self._perturbed.tensors, before)  # the parameters change in commit only
        shape = (*hidden_BTD.shape[:2], answers_in(self._piece, labels))
        forward = cost(self._piece, *shape).forward_flops
        return ServerReply(
            reply=Scalars(
                round=turn.round,
                values=((above - below) / (2 * self._mu)).float().view(1, 1).cpu(),
                steps=(1,),
            ),
            flops=(3 + 2 * self._steps) * forward,
            losses=(first.item(),),
            samples=len(message.ids_B),
            change=_BodyUpdate(tensors=updated),
        )

    def _body(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._perturbed.tensors.items()}


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side."""
    trainer = ClientTrainer.of(pieces.head(), config)
    perturbed = perturbed_parameters(values_of(trainer.piece), config)
    return MuClient(trainer, perturbed, batches, steps, config.method.of(MuSettings).mu)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with zeroth-order steps of its own."""
    body, settings, train = pieces.body(), config.method.of(MuSettings), config.train
    rule, clients = aggregator("mean"), config.federation.clients
    perturbed = PerturbedParameters(values_of(body), rule, train.seed, clients, train.body_lr)
    client_adapters, schedule = ClientAdapters.of(config, pieces.head), body_decay(config)
    return MuServer(
        body,
        perturbed,
        client_adapters,
        steps=settings.server_steps,
        mu=settings.mu,
        lr=lambda at: train.body_lr * schedule(at),
    )


def refuse(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for a `method.mu` below the dtype's resolution, and for weight decay."""
    refuse_distance(config, config.method.of(MuSettings).mu)


_MUSPLITFED = """@inproceedings{liang2025towards,
  title = {Towards Straggler-Resilient Split Federated Learning: An Unbalanced Update Approach},
  author = {Liang, Dandan and Zhang, Jianing and Chen, Evan and Li, Zhe and Li, Rui and Yang, Haibo},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2025}
}"""

SPEC = spec.MethodSpec(
    about="zeroth order on both sides: three activations up, one scalar down, several server steps",
    bibtex=(_MUSPLITFED, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_adapters((Activation, Scalars)),
    sends={"activation": spec.DIFFERENCES},
    labels="sent",
    activations="at each step, three times",
    settings=MuSettings,
    shared=spec.UPLOADS | spec.BODY,
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head",),
    asynchronous=True,
    single_pass=spec.NOT_ONCE,
    summable=True,
    server_batch="takes several zeroth-order steps of its body on each client's activations",
    backpropagates=False,
    shardable=True,
    refusals=(refuse,),
)
