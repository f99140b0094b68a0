"""`mu-splitfed`: zeroth order on both sides, one number back, several server steps for one of the client.

MU-SplitFed (Liang et al., NeurIPS'25, arXiv 2510.21155). Per step the client sends its
hidden state at theta, theta + mu u and theta - mu u; the server takes
`method.server_steps` steps of its own at the first, each along a direction of its own
(central differences), and answers with the slope of its then loss between the other two.
Head adapters go up and come down once a round. We depart from the paper in that one body
learns from all clients in turn, as in `sfl-v2`, where it keeps one for each and averages
them, and in that directions are signs.
"""

# B batch, T tokens, D hidden, N real tokens of a batch

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from splitfl.accounting.flops import cost
from splitfl.adapters.inject import overwrite
from splitfl.config import RunConfig, above, at_least
from splitfl.core.messages import Activation, Message, Reply, Scalars
from splitfl.core.state import State, copied, part, under
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import aggregator
from splitfl.methods.hybrid import hidden_of
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer, unpack
from splitfl.methods.parts.directional_derivatives import beside, central
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
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, values_of, walk
from splitfl.methods.parts.rates import body_decay
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.zeroth_order_client import refuse_distance
from splitfl.models.cut import Piece


@dataclass(frozen=True, kw_only=True)
class MuSettings:
    """Both sides move over `mu` an element; the server takes `server_steps` steps for one of a client."""

    mu: float = 1e-3
    server_steps: int = 1

    def __post_init__(self) -> None:
        above("method.mu", self.mu, 0.0)
        at_least("method.server_steps", self.server_steps, 1)


class MuClient:
    """Runs the head three times a step, forward only; `walk` moves the learner's own tensors."""

    def __init__(
        self, learner: ClientTrainer, walk: PerturbedParameters, batches: Batches, steps: int, mu: float
    ) -> None:
        self._learner = learner
        self._walk = walk
        self._batches = batches
        self._num_steps = steps
        self._mu = mu
        self.take_flops = learner.take_flops
        self.state = learner.state
        self.restore = learner.restore

    def round(self, round_index: int) -> ClientRound:
        return self._learner.round(round_index, self._num_steps + 1, self._steps(round_index))

    def _steps(self, round_index: int) -> Generator[Message, Reply, int]:
        learner, samples, client = self._learner, 0, self._batches.client
        for step in range(self._num_steps):
            batch = self._batches.batch(round_index * self._num_steps + step).to(learner.piece.model.device)
            context = learner.piece.context_of(batch.inputs)
            look = partial(self._look, hidden_of(batch, context), batch.shape_BT)
            u = self._walk.draw(client, round_index, step, 0)
            around = (beside(self._walk, u, scale, look) for scale in (self._mu, -self._mu))
            hidden = torch.stack([look(), *around])
            reply = yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels)
            if isinstance(reply, Scalars):  # a lost one costs this step, no more
                self._walk.step(client, round_index, step, reply.values[0])
                samples += len(batch.ids_B)
        return samples

    def _look(self, forward: Function, shape_BT: torch.Size) -> Tensor:
        self._learner.flops += self._learner.cost(shape_BT).forward_flops
        with torch.no_grad():
            return forward(self._learner.piece)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Moved:
    tensors: dict[str, Tensor]


class MuServer:
    """Runs the body forward only, at most one message at a time; averages the heads' adapters."""

    def __init__(
        self,
        piece: Piece,
        walk: PerturbedParameters,
        heads: ClientAdapters,
        *,
        steps: int,
        mu: float,
        lr: Callable[[int], float],
    ) -> None:
        """`walk` moves the piece's own trainable tensors, in a round at its `lr`."""
        self._piece = piece
        self._walk = walk
        self._heads = heads
        self._steps = steps
        self._mu = mu
        self._lr = lr

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return self._learn(ticket, message)
        return self._heads.answer(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        change = self._heads.take(outcome)
        if isinstance(change, _Moved):
            overwrite(self._walk.tensors, change.tensors)

    def end_round(self, round_index: int) -> None:
        self._heads.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._heads.tensors | self._body()

    def state(self) -> State:
        return under("body", copied(self._walk.tensors)) | under("heads", self._heads.state())

    def restore(self, state: State) -> None:
        overwrite(self._walk.tensors, part(state, "body"))
        self._heads.restore(part(state, "heads"))

    def _learn(self, ticket: Turn, message: Activation) -> ServerReply:
        assert message.hidden is not None
        assert message.labels is not None
        if len(message.hidden) != 3:
            raise unexpected("mu-splitfed", message)
        device, mask = self._piece.model.device, message.context.get("mask")
        there = {name: tensor.to(device) for name, tensor in message.context.items()}
        here, *around = (unpack(hidden, mask).to(device) for hidden in message.hidden)
        labels = message.labels.to(device)

        def loss(hidden_BTD: Tensor) -> Tensor:
            with torch.no_grad():
                found = self._piece(hidden_BTD, there, labels).loss
            assert isinstance(found, Tensor)
            return found

        first, before = loss(here), self._body()
        names = self._walk.names(ticket.round)
        for step in range(self._steps):
            u = self._walk.along(names, "server", ticket.client, ticket.round, ticket.lap, step)
            slope = central(self._walk, u, self._mu, lambda: loss(here)).item()
            self._walk.move(u, -self._lr(ticket.round) * slope)
        above, below = (loss(hidden_BTD).double() for hidden_BTD in around)
        moved = self._body()
        overwrite(self._walk.tensors, before)  # it is `commit` that changes something
        forward = cost(self._piece, *here.shape[:2]).forward_flops
        return ServerReply(
            reply=Scalars(
                round=ticket.round,
                values=((above - below) / (2 * self._mu)).float().view(1, 1).cpu(),
                steps=(1,),
            ),
            flops=(3 + 2 * self._steps) * forward,
            losses=(first.item(),),
            samples=len(message.ids_B),
            change=_Moved(tensors=moved),
        )

    def _body(self) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in self._walk.tensors.items()}


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side."""
    learner = ClientTrainer.of(pieces.head(), config)
    moving = walk(values_of(learner.piece), config)
    return MuClient(learner, moving, batches, steps, config.method.of(MuSettings).mu)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, which takes perturbed steps of its own."""
    body, settings, train = pieces.body(), config.method.of(MuSettings), config.train
    rule, clients = aggregator("mean"), config.federation.clients
    moving = PerturbedParameters(values_of(body), rule, train.seed, clients, train.body_lr)
    heads, falls = ClientAdapters.of(config, pieces.head), body_decay(config)
    return MuServer(
        body,
        moving,
        heads,
        steps=settings.server_steps,
        mu=settings.mu,
        lr=lambda at: train.body_lr * falls(at),
    )


def refuse(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for moves that vanish in rounding, and for what slopes cannot have."""
    refuse_distance(config, config.method.of(MuSettings).mu)


_MUSPLITFED = """@inproceedings{liang2025towards,
  title = {Towards Straggler-Resilient Split Federated Learning: An Unbalanced Update Approach},
  author = {Liang, Dandan and Zhang, Jianing and Chen, Evan and Li, Zhe and Li, Rui and Yang, Haibo},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2025}
}"""

SPEC = spec.MethodSpec(
    about="zeroth order on both sides: three activations up, one number down, several server steps",
    bibtex=(_MUSPLITFED, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_adapters((Activation, Scalars)),
    sends={"activation": spec.DIFFERENCES},
    settings=MuSettings,
    shared=spec.UPLOADS | spec.BODY,
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head",),
    asynchronous=True,
    single_pass=spec.NOT_ONCE,
    summable=True,
    backpropagates=False,
    refusals=(refuse,),
)
