"""`cse-fsl`: local training with the loss of an auxiliary model; the server trains on every q-th activation.

CSE-FSL (Mu & Shen, arXiv 2302.05599) with low-rank adapters. The client trains head and auxiliary together;
it uploads the activations of the first of every `method.upload_interval` batches and receives
acknowledgements only. The server has one body for all clients. Head and auxiliary are averaged once a round.
"""

# B batch, T tokens, D hidden

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from splitfl.config import RunConfig, group
from splitfl.core.messages import Activation, Adapter, Done, Message, Reply
from splitfl.core.state import State, part, under
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.auxiliary import PREFIX, Auxiliary, refuse_auxiliary, split_auxiliary
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.joint_step import answer_activations
from splitfl.methods.parts.local_update import AveragedClient, LocalParts, LocalUpdate, LocalUpdateSpec
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.server_model import BodyStep, ServerModel
from splitfl.methods.parts.split_pass import Backpropagation, enable_checkpointing, micro_batches
from splitfl.models.cut import Piece
from splitfl.models.token_rows import pack
from splitfl.models.training_step import training_step


@dataclass(frozen=True, kw_only=True)
class CseSettings:
    """The auxiliary model, and backpropagation through it and the head."""

    auxiliary: Auxiliary = group(Auxiliary)
    backpropagation: Backpropagation = group(Backpropagation)


class LocalStep(Protocol):
    """Trains head and auxiliary on a batch, on the client alone."""

    def __call__(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """Takes one step; returns the hidden state (B, T, D) before it, without a graph."""


class AuxiliaryUpdate:
    """Local steps, with an upload of every q-th activation."""

    def __init__(self, local_step: LocalStep, upload_interval: int) -> None:
        self._local_step = local_step
        self.upload_interval = upload_interval

    def begin(self, round_index: int, rank: int) -> None:
        pass

    def forward(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        return pack(self._local_step(batch, context, round_index, step), context.get("mask"))

    def on_reply(self, reply: Reply | None, context: Mapping[str, Tensor]) -> bool:
        """Ignores the reply; every batch has updated the head."""
        return True


class BackpropagationStep:
    """One step of head and auxiliary from the gradient of the auxiliary's loss."""

    def __init__(
        self, trainer: ClientTrainer, auxiliary: Piece, settings: Backpropagation, piece: Piece | None = None
    ) -> None:
        """`piece`, made of the trainer's tensors, replaces the trainer's own piece."""
        self._trainer = trainer
        self._piece = piece or trainer.piece
        self._auxiliary = auxiliary
        self._size = settings.micro_batch
        self._is_checkpointed = settings.checkpoint_head
        if settings.checkpoint_head:
            enable_checkpointing(self._piece)

    def __call__(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        trainer = self._trainer
        trained = trainer.training_step(batch, round_index, step)
        hidden_BTD = []
        for micro in micro_batches(batch.labels, self._size, self._piece.kind):
            with training_step(trained.of(micro.rows), self._piece, self._auxiliary):
                hidden_BTD.append(self._piece(micro.of(batch.inputs), {}))
                loss = self._auxiliary(hidden_BTD[-1], micro.of(context), batch.labels[micro.rows]).loss
                (loss * micro.weight).backward()
            hidden_BTD[-1] = hidden_BTD[-1].detach()
        trainer.step()
        cost = trainer.cost(batch.shape, self._piece)
        trainer.flops += cost.step_flops + self._is_checkpointed * cost.forward_flops
        trainer.flops += trainer.cost(batch.shape, self._auxiliary).step_flops
        return torch.cat(hidden_BTD)


class CseServer:
    """Trains the body on the activations received; averages heads and auxiliaries."""

    def __init__(self, body: ServerModel, client_adapters: ClientAdapters, upload_interval: int) -> None:
        self._body = body
        self._interval = upload_interval
        self._client_adapters = client_adapters

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return self.compute_batch([turn], [message])[0]
        return self._client_adapters.answer(turn, message)

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Activation]) -> list[ServerReply]:
        return answer_activations(self._body, turns, messages, wants_gradient=False, interval=self._interval)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._client_adapters.receive(change)
        self._body.commit(turn, change if isinstance(change, BodyStep) else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._client_adapters.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return split_auxiliary(self._client_adapters.tensors)[0] | self._body.trained()

    def state(self) -> State:
        return under("body", self._body.state()) | under("heads", self._client_adapters.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._client_adapters.restore(part(state, "heads"))


def local_update(parts: LocalParts) -> LocalUpdate:
    """Backpropagation from the auxiliary's loss, for a controlled client."""
    assert parts.auxiliary is not None
    settings = parts.config.method
    local_step = BackpropagationStep(parts.trainer, parts.auxiliary, settings.of(Backpropagation), parts.head)
    return AuxiliaryUpdate(local_step, settings.of(Auxiliary).upload_interval)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with an auxiliary model that is trained with the head."""
    auxiliary, settings = pieces.auxiliary(), config.method
    trainer = ClientTrainer.of(pieces.head(), config, auxiliary, PREFIX)
    local_step = BackpropagationStep(trainer, auxiliary, settings.of(Backpropagation))
    update = AuxiliaryUpdate(local_step, settings.of(Auxiliary).upload_interval)
    return AveragedClient(trainer, update, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side."""
    client_adapters = ClientAdapters.of(config, pieces.head, pieces.auxiliary, PREFIX)
    return CseServer(
        ServerModel.of(pieces.body(), config), client_adapters, config.method.of(Auxiliary).upload_interval
    )


_CSEFSL = """@article{mu2023communication,
  title = {Communication and Storage Efficient Federated Split Learning},
  author = {Mu, Yujia and Shen, Cong},
  journal = {arXiv preprint arXiv:2302.05599},
  year = {2023}
}"""

SPEC = spec.MethodSpec(
    about="the client trains with an auxiliary model's loss, the server on every q-th activation",
    bibtex=(_CSEFSL, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_adapters((Activation, Done)),
    sends={"activation": spec.ANY_LOSS},
    labels="sent",
    activations="at each method.upload_interval-th step",
    settings=CseSettings,
    shared=spec.UPLOADS | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER,
    aggregators=spec.FACTORS | spec.PRODUCTS,
    holds=("head",),
    asynchronous=True,
    single_pass=True,
    summable=True,
    server_batch=True,
    backpropagates=True,
    dropout=("head", "body"),
    shardable=True,
    local_update=LocalUpdateSpec(make=local_update, needs_auxiliary=True),
    refusals=(refuse_auxiliary,),
)
