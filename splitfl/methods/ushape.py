"""`ushape`: U-shaped split learning; the client has both ends of the model, and labels stay with it.

Vepakomma et al., arXiv 1812.00564, figure 2b, with low-rank adapters. A step has two exchanges: the client
sends an activation and receives the body's output; it sends the gradient at the tail's input and receives the
one at the head's output. In between the server keeps the graph of the half step at the parameters it started
with, so with K clients a gradient is stale by at most K - 1 steps. A lost message costs this step on both
sides; if the last reply is lost, the body has been updated and the client has not.
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
from splitfl.core.messages import Activation, Adapter, Done, Gradient, Message, Output, Reply, Skip
from splitfl.core.state import State, part, under
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
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
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.server_model import BodyStep, ServerModel
from splitfl.methods.parts.split_pass import Backpropagation, SplitPass, micro_batches
from splitfl.models.cut import Piece, replica
from splitfl.models.token_rows import pack, unpack
from splitfl.models.training_step import TrainingStep, training_step


class UshapeClient:
    """Trains head and tail, and computes the loss."""

    def __init__(
        self, trainer: ClientTrainer, tail: Piece, batches: Batches, steps: int, settings: Backpropagation
    ) -> None:
        self._trainer = trainer
        self._passes = SplitPass(trainer, settings)
        self._size = settings.micro_batch
        self._tail = tail
        self._batches = batches
        self._num_steps = steps
        self.take_flops = trainer.take_flops
        self.state = trainer.state
        self.restore = trainer.restore

    def round(self, round_index: int) -> ClientRound:
        return self._trainer.round(round_index, 2 * self._num_steps + 1, self._steps(round_index))

    def _steps(self, round_index: int) -> Generator[Message, Reply, int]:
        trainer, head, samples = self._trainer, self._trainer.piece, 0
        for step in range(self._num_steps):
            batch = self._batches.batch(round_index * self._num_steps + step).to(head.model.device)
            trained = trainer.training_step(batch, round_index, step)
            hidden_BTD = self._passes.forward(batch, trained)
            context = head.context_of(batch.inputs)
            hidden = pack(hidden_BTD, context.get("mask"))
            reply = yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context)
            if not isinstance(reply, Output):  # the server expects a message in this turn
                yield Skip()
                continue
            upper_BTD = unpack(reply.hidden.to(hidden_BTD.device), context.get("mask")).requires_grad_()
            loss = self._backpropagate(upper_BTD, context, batch.labels, trained)
            trainer.flops += trainer.cost(batch.shape, self._tail).step_flops
            assert upper_BTD.grad is not None
            grad = pack(upper_BTD.grad, context.get("mask"))
            reply = yield Gradient(ids_B=batch.ids_B, grad=grad, loss=loss)
            if isinstance(reply, Gradient):
                self._passes.backward(unpack(reply.grad.to(hidden_BTD.device), context.get("mask")))
                trainer.step()
                samples += len(batch.ids_B)
            else:
                trainer.zero_grad()
        return samples

    def _backpropagate(
        self, upper_BTD: Tensor, context: Mapping[str, Tensor], labels: Tensor, step: TrainingStep
    ) -> float:
        """Accumulates the gradients of the tail's loss in the tail and in `upper_BTD`; returns the loss."""
        found = 0.0
        for micro in micro_batches(labels, self._size, self._tail.kind):
            with training_step(step.of(micro.rows), self._tail):
                output = self._tail(upper_BTD[micro.rows], micro.of(context), labels[micro.rows])
            loss = output.loss * micro.weight
            loss.backward()
            found += loss.item()
        return found


def refuse_no_tail(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for a client without a tail."""
    cut = config.partition.cut
    if not config.partition.tail_blocks:
        raise ConfigError(
            "partition.tail_blocks must be at least 1 with the method 'ushape', for the client's end of the "
            f"model: head {cut} and tail together may have {num_blocks - 1} of the {num_blocks} blocks; got 0"
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class HalfStep:
    """A step between its two exchanges, with the graph from `hidden_BTD` to `output_BTD`, both (B, T, D)."""

    ids_B: Tensor
    hidden_BTD: Tensor
    output_BTD: Tensor
    mask: Tensor | None


class UshapeServer:
    """Trains the body, with one replica per client for the half steps in flight."""

    def __init__(self, body: ServerModel, replicas: Sequence[Piece], client_adapters: ClientAdapters) -> None:
        self._body = body
        self._replicas = replicas
        self._half_steps: dict[int, HalfStep] = {}
        self._costs: dict[tuple[int, ...], Cost] = {}
        self._client_adapters = client_adapters

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=None):
                return self._forward(turn, message)
            case Gradient(loss=float()):
                return self._backward(turn, message)
            case Skip():
                return ServerReply(reply=Done())
        return self._client_adapters.answer(turn, message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._client_adapters.receive(change)
        self._half_steps.pop(turn.client, None)  # a half step is used or dropped by the client's next turn
        if isinstance(change, HalfStep):
            self._half_steps[turn.client] = change
        self._body.commit(turn, change if isinstance(change, BodyStep) else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._client_adapters.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._client_adapters.tensors | self._body.trained()

    def state(self) -> State:
        return under("body", self._body.state()) | under("heads", self._client_adapters.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._client_adapters.restore(part(state, "heads"))

    def _forward(self, turn: Turn, message: Activation) -> ServerReply:
        assert message.hidden is not None
        piece = self._replicas[turn.client]
        install(piece, self._body.trained())
        device, mask = piece.model.device, message.context.get("mask")
        hidden_BTD = unpack(message.hidden, mask).to(device).requires_grad_()
        device_context = {name: tensor.to(device) for name, tensor in message.context.items()}
        with training_step(self._body.training_step(turn, message.ids_B, (turn.lap - 1) // 2), piece):
            output_BTD = piece(hidden_BTD, device_context)
        return ServerReply(
            reply=Output(ids_B=message.ids_B, hidden=pack(output_BTD.detach(), mask).cpu()),
            flops=self._cost(hidden_BTD).forward_flops,
            change=HalfStep(ids_B=message.ids_B, hidden_BTD=hidden_BTD, output_BTD=output_BTD, mask=mask),
        )

    def _backward(self, turn: Turn, message: Gradient) -> ServerReply:
        half_step, piece = self._half_steps.get(turn.client), self._replicas[turn.client]
        if half_step is None or not torch.equal(half_step.ids_B, message.ids_B):
            raise unexpected("ushape", message)
        assert message.loss is not None
        grad_BTD = unpack(message.grad, half_step.mask).to(half_step.output_BTD.device)
        wanted = [half_step.hidden_BTD, *trainable(piece).values()]
        hidden_grad, *grads = torch.autograd.grad(half_step.output_BTD, wanted, grad_BTD)
        flops = self._cost(half_step.hidden_BTD).backward_flops
        return ServerReply(
            reply=Gradient(ids_B=message.ids_B, grad=pack(hidden_grad, half_step.mask).cpu()),
            flops=flops,
            losses=(message.loss,),
            samples=len(message.ids_B),
            step=(turn.lap - 1) // 2,
            change=BodyStep(loss=message.loss, flops=flops, hidden_grad=None, grads=tuple(grads)),
        )

    def _cost(self, hidden_BTD: Tensor) -> Cost:
        batch, tokens, _ = hidden_BTD.shape
        if (batch, tokens) not in self._costs:
            self._costs[batch, tokens] = cost(self._body.piece, batch, tokens)
        return self._costs[batch, tokens]


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with both ends of the model."""
    tail = pieces.tail()
    trainer, settings = ClientTrainer.of(pieces.head(), config, tail), config.method.of(Backpropagation)
    return UshapeClient(trainer, tail, batches, steps, settings)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with one replica of the body per client."""
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
    why_not="its client's tail computes the loss without the mask of the tokens received by the server",
)

SPEC = spec.MethodSpec(
    about="head and tail on the client, body on the server: labels stay with the client",
    bibtex=(_USHAPE, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_adapters((Activation, Output), (Gradient, Gradient)),
    sends={"activation": _MASKS, "output": _MASKS, "gradient": spec.ANY_LOSS},
    labels="in gradients",
    settings=Backpropagation,
    shared=spec.UPLOADS | spec.BODY | spec.OPTIMISER | {"partition.tail_blocks"},
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head",),
    asynchronous=True,
    single_pass=spec.NOT_ONCE,
    summable=True,
    server_batch="computes the loss at its clients: a step of its body takes two messages of each client",
    backpropagates=True,
    dropout=("head", "body"),
    shardable="keeps one replica of the body per client",
    refusals=(refuse_no_tail,),
    needs=("partition.tail_blocks=1",),
)
