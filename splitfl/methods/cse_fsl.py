"""`cse-fsl`: the client learns from an auxiliary's loss, the server from every q-th activation.

CSE-FSL (Mu & Shen, arXiv 2302.05599) with low-rank adapters: head and auxiliary are
trained together, on the client alone; the first batch of every `method.upload_interval`
goes up, and nothing comes down but acknowledgements. The server has one body for all.
Head and auxiliary are averaged once a round.
"""

# B batch, T tokens, D hidden

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from splitfl.config import RunConfig, group
from splitfl.core.messages import Activation, Done, Message, Reply
from splitfl.core.state import State, part, under
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.auxiliary import PREFIX, Auxiliary, apart, refuse_auxiliary
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer, pack, unpack
from splitfl.methods.parts.local_update import AveragedClient, LocalParts, LocalUpdate, LocalUpdateSpec
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.server_model import ServerModel
from splitfl.methods.parts.split_pass import Backpropagation, hold_inputs_alone, parts
from splitfl.models.cut import Piece


@dataclass(frozen=True, kw_only=True)
class CseSettings:
    """Backpropagation through head and auxiliary."""

    auxiliary: Auxiliary = group(Auxiliary)
    backpropagation: Backpropagation = group(Backpropagation)


class Lesson(Protocol):
    """How a client learns from a batch all by itself."""

    def __call__(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """Learns from a batch; the hidden state (B, T, D) from before it did, without a graph."""


class AuxiliaryUpdate:
    """A head that learns by itself, and sends the server every q-th activation."""

    def __init__(self, learn: Lesson, upload_interval: int) -> None:
        self._learn = learn
        self.upload_interval = upload_interval

    def begin(self, round_index: int, rank: int) -> None:
        pass

    def forward(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        return pack(self._learn(batch, context, round_index, step), context.get("mask"))

    def on_reply(self, reply: Reply | None, context: Mapping[str, Tensor]) -> bool:
        """Whatever came or did not come changes nothing."""
        return True


class Backprop:
    """One step of head and auxiliary down the gradient of the auxiliary's loss."""

    def __init__(
        self, learner: ClientTrainer, auxiliary: Piece, settings: Backpropagation, piece: Piece | None = None
    ) -> None:
        """`piece` takes the place of the learner's own, of whose tensors it is made."""
        self._learner = learner
        self._piece = piece or learner.piece
        self._auxiliary = auxiliary
        self._size = settings.micro_batch
        self._is_checkpointed = settings.checkpoint_head
        if settings.checkpoint_head:
            hold_inputs_alone(self._piece)

    def __call__(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """See Lesson."""
        learner = self._learner
        hidden_BTD = []
        for some in parts(batch.labels, self._size):
            hidden_BTD.append(self._piece(some.of(batch.inputs), {}))
            loss = self._auxiliary(hidden_BTD[-1], some.of(context), batch.labels[some.rows]).loss
            (loss * some.weight).backward()
            hidden_BTD[-1] = hidden_BTD[-1].detach()
        learner.step()
        cost = learner.cost(batch.shape_BT, self._piece)
        learner.flops += cost.step_flops + self._is_checkpointed * cost.forward_flops
        learner.flops += learner.cost(batch.shape_BT, self._auxiliary).step_flops
        return torch.cat(hidden_BTD)


class CseServer:
    """Runs the body on whatever comes; averages heads and auxiliaries."""

    def __init__(self, body: ServerModel, heads: ClientAdapters, upload_interval: int) -> None:
        self._body = body
        self._interval = upload_interval
        self._heads = heads

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return acknowledge(self._body, ticket, message, self._interval)
        return self._heads.answer(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        self._body.commit(ticket, self._heads.take(outcome))

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._heads.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return apart(self._heads.tensors)[0] | self._body.trained()

    def state(self) -> State:
        return under("body", self._body.state()) | under("heads", self._heads.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._heads.restore(part(state, "heads"))


def acknowledge(body: ServerModel, ticket: Turn, message: Activation, upload_interval: int) -> ServerReply:
    """The body's step on a client's activations, of which the client hears nothing."""
    assert message.hidden is not None
    assert message.labels is not None
    hidden_BTD = unpack(message.hidden, message.context.get("mask")).to(body.piece.model.device)
    step = body.compute(ticket.position, hidden_BTD, message.context, message.labels, wants_hidden_grad=False)
    return ServerReply(
        reply=Done(),
        flops=step.flops,
        losses=(step.loss,),
        samples=len(message.ids_B),
        step=(ticket.lap - 1) * upload_interval,
        change=step,
    )


def local_update(parts: LocalParts) -> LocalUpdate:
    """Backpropagation from an auxiliary's loss."""
    assert parts.auxiliary is not None
    settings = parts.config.method
    learn = Backprop(parts.trainer, parts.auxiliary, settings.of(Backpropagation), parts.head)
    return AuxiliaryUpdate(learn, settings.of(Auxiliary).upload_interval)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side, with an auxiliary that learns with the head."""
    auxiliary, settings = pieces.auxiliary(), config.method
    trainer = ClientTrainer.of(pieces.head(), config, auxiliary, PREFIX)
    learn = Backprop(trainer, auxiliary, settings.of(Backpropagation))
    update = AuxiliaryUpdate(learn, settings.of(Auxiliary).upload_interval)
    return AveragedClient(trainer, update, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side."""
    heads = ClientAdapters.of(config, pieces.head, pieces.auxiliary, PREFIX)
    return CseServer(
        ServerModel.of(pieces.body(), config), heads, config.method.of(Auxiliary).upload_interval
    )


_CSEFSL = """@article{mu2023communication,
  title = {Communication and Storage Efficient Federated Split Learning},
  author = {Mu, Yujia and Shen, Cong},
  journal = {arXiv preprint arXiv:2302.05599},
  year = {2023}
}"""

SPEC = spec.MethodSpec(
    about="the client learns from an auxiliary's loss, the server from every q-th activation",
    bibtex=(_CSEFSL, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_adapters((Activation, Done)),
    sends={"activation": spec.ANY_LOSS},
    settings=CseSettings,
    shared=spec.UPLOADS | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER,
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head",),
    asynchronous=True,
    single_pass=True,
    summable=True,
    backpropagates=True,
    local_update=LocalUpdateSpec(make=local_update, needs_auxiliary=True),
    refusals=(refuse_auxiliary,),
)
