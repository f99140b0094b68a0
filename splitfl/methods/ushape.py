"""`ushape`: the client has both ends of the model, so that no label ever leaves it.

Vepakomma et al., arXiv 1812.00564, figure 2b, with low-rank adapters. A step is two
exchanges: an activation goes up and the body's output comes down; the gradient at the
tail's lower edge goes up and the one at the head's upper edge comes down. The server
keeps a step half done in between, at the parameters that it began with: with K clients
its gradient is at most K - 1 of the others' steps old. A loss on either way costs that
step, on both sides, and no more; only where the last answer is lost has the body learned.
"""

# B batch, T tokens, D hidden

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.accounting.flops import Cost, cost
from splitfl.adapters.inject import install, trainable
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Done, Gradient, Message, Output, Reply, Skip
from splitfl.core.state import State, part, under
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer, pack, unpack
from splitfl.methods.parts.method import (
    ClientMethod,
    ClientRound,
    Pieces,
    ServerMethod,
    ServerReply,
    Turn,
    unexpected,
)
from splitfl.methods.parts.rates import body_decay
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.server_model import BodyStep, ServerModel
from splitfl.methods.parts.split_pass import Backpropagation, SplitPass, parts
from splitfl.models.cut import Piece, replica


class UshapeClient:
    """Runs head and tail; the loss is its own."""

    def __init__(
        self, learner: ClientTrainer, tail: Piece, batches: Batches, steps: int, settings: Backpropagation
    ) -> None:
        self._learner = learner
        self._passes = SplitPass(learner, settings)
        self._size = settings.micro_batch
        self._tail = tail
        self._batches = batches
        self._num_steps = steps
        self.take_flops = learner.take_flops
        self.state = learner.state
        self.restore = learner.restore

    def round(self, round_index: int) -> ClientRound:
        return self._learner.round(round_index, 2 * self._num_steps + 1, self._steps(round_index))

    def _steps(self, round_index: int) -> Generator[Message, Reply, int]:
        learner, head, samples = self._learner, self._learner.piece, 0
        for step in range(self._num_steps):
            batch = self._batches.batch(round_index * self._num_steps + step).to(head.model.device)
            hidden_BTD = self._passes.forth(batch)
            context = head.context_of(batch.inputs)
            hidden = pack(hidden_BTD, context.get("mask"))
            reply = yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context)
            if not isinstance(reply, Output):  # the turn was announced, so something must be said
                yield Skip()
                continue
            upper_BTD = unpack(reply.hidden.to(hidden_BTD.device), context.get("mask")).requires_grad_()
            loss = self._descend(upper_BTD, context, batch.labels)
            learner.flops += learner.cost(hidden_BTD.shape, self._tail).step_flops
            assert upper_BTD.grad is not None
            grad = pack(upper_BTD.grad, context.get("mask"))
            reply = yield Gradient(ids_B=batch.ids_B, grad=grad, loss=loss)
            if isinstance(reply, Gradient):
                self._passes.back(unpack(reply.grad.to(hidden_BTD.device), context.get("mask")))
                learner.step()
                samples += len(batch.ids_B)
            else:
                learner.forget()
        return samples

    def _descend(self, upper_BTD: Tensor, context: Mapping[str, Tensor], labels: Tensor) -> float:
        """Leaves the gradient of the tail's loss in the tail and in `upper_BTD`; the loss."""
        found = 0.0
        for some in parts(labels, self._size):
            loss = self._tail(upper_BTD[some.rows], some.of(context), labels[some.rows]).loss * some.weight
            loss.backward()
            found += loss.item()
        return found


def refuse_no_tail(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError where the client would have no tail."""
    cut = config.partition.cut
    if not config.partition.tail_blocks:
        raise ConfigError(
            "the method 'ushape' needs partition.tail_blocks of at least 1, for the client's own end of the "
            f"model: head {cut} and tail together may have {num_blocks - 1} of the {num_blocks} blocks; got 0"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Half:
    """A step between its two exchanges, with the graph that leads from `output` back to `hidden`."""

    ids_B: Tensor
    hidden_BTD: Tensor
    output_BTD: Tensor
    mask: Tensor | None


class UshapeServer:
    """Runs the body there and back; each client has a replica of it for the step that it is in."""

    def __init__(self, body: ServerModel, replicas: Sequence[Piece], heads: ClientAdapters) -> None:
        self._body = body
        self._replicas = replicas
        self._halves: dict[int, Half] = {}
        self._costs: dict[tuple[int, ...], Cost] = {}
        self._heads = heads

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=None):
                return self._forth(ticket, message)
            case Gradient(loss=float()):
                return self._back(ticket, message)
            case Skip():
                return ServerReply(reply=Done())
        return self._heads.answer(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        change = self._heads.take(outcome)
        self._halves.pop(ticket.client, None)  # whatever came or did not come, what waited is over
        if isinstance(change, Half):
            self._halves[ticket.client] = change
        self._body.commit(ticket, change if isinstance(change, BodyStep) else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._heads.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._heads.tensors | self._body.trained()

    def state(self) -> State:
        return under("body", self._body.state()) | under("heads", self._heads.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._heads.restore(part(state, "heads"))

    def _forth(self, ticket: Turn, message: Activation) -> ServerReply:
        assert message.hidden is not None
        piece = self._replicas[ticket.client]
        install(piece, self._body.trained())
        device, mask = piece.model.device, message.context.get("mask")
        hidden_BTD = unpack(message.hidden, mask).to(device).requires_grad_()
        there = {name: tensor.to(device) for name, tensor in message.context.items()}
        output_BTD = piece(hidden_BTD, there)
        return ServerReply(
            reply=Output(ids_B=message.ids_B, hidden=pack(output_BTD.detach(), mask).cpu()),
            flops=self._cost(hidden_BTD).forward_flops,
            change=Half(ids_B=message.ids_B, hidden_BTD=hidden_BTD, output_BTD=output_BTD, mask=mask),
        )

    def _back(self, ticket: Turn, message: Gradient) -> ServerReply:
        half, piece = self._halves.get(ticket.client), self._replicas[ticket.client]
        if half is None or not torch.equal(half.ids_B, message.ids_B):
            raise unexpected("ushape", message)
        assert message.loss is not None
        grad_BTD = unpack(message.grad, half.mask).to(half.output_BTD.device)
        wanted = [half.hidden_BTD, *trainable(piece).values()]
        hidden_grad, *grads = torch.autograd.grad(half.output_BTD, wanted, grad_BTD)
        flops = self._cost(half.hidden_BTD).backward_flops
        return ServerReply(
            reply=Gradient(ids_B=message.ids_B, grad=pack(hidden_grad, half.mask).cpu()),
            flops=flops,
            losses=(message.loss,),
            samples=len(message.ids_B),
            step=(ticket.lap - 1) // 2,
            change=BodyStep(loss=message.loss, flops=flops, hidden_grad=None, grads=tuple(grads)),
        )

    def _cost(self, hidden_BTD: Tensor) -> Cost:
        batch, tokens, _ = hidden_BTD.shape
        if (batch, tokens) not in self._costs:
            self._costs[batch, tokens] = cost(self._body.piece, batch, tokens)
        return self._costs[batch, tokens]


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side, with both ends of the model."""
    tail = pieces.tail()
    learner, settings = ClientTrainer.of(pieces.head(), config, tail), config.method.of(Backpropagation)
    return UshapeClient(learner, tail, batches, steps, settings)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with a replica of the body for each client."""
    body = ServerModel(pieces.body(), config.train, 1, body_decay(config))
    replicas = [replica(body.piece) for _ in range(config.federation.clients)]
    return UshapeServer(body, replicas, ClientAdapters.of(config, pieces.head, pieces.tail))


_USHAPE = """@article{vepakomma2018split,
  title = {Split Learning for Health: Distributed Deep Learning without Sharing Raw Patient Data},
  author = {Vepakomma, Praneeth and Gupta, Otkrist and Swedish, Tristan and Raskar, Ramesh},
  journal = {arXiv preprint arXiv:1812.00564},
  year = {2018}
}"""

_MASKS = spec.Tolerance(
    policies=spec.ALL_POLICIES - {"mask"},
    why_not="its client's tail finds the loss, and is not told which tokens its server has heard of",
)

SPEC = spec.MethodSpec(
    about="head and tail on the client, the body between them on the server: labels never leave",
    bibtex=(_USHAPE, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_adapters((Activation, Output), (Gradient, Gradient)),
    sends={"activation": _MASKS, "output": _MASKS, "gradient": spec.ANY_LOSS},
    settings=Backpropagation,
    shared=spec.UPLOADS | spec.BODY | spec.OPTIMISER | {"partition.tail_blocks"},
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head",),
    asynchronous=True,
    single_pass=spec.NOT_ONCE,
    summable=True,
    backpropagates=True,
    refusals=(refuse_no_tail,),
    needs=("partition.tail_blocks=1",),
)
