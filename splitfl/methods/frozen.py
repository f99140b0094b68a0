"""`frozen`: the head is frozen, so each sample's activation is sent once.

SplitFrozen (arXiv 2503.18986): the server caches the activations and trains from its cache in all later
epochs. The downlink carries acknowledgements only, and no adapters are uploaded.
"""

# B batch, T tokens, D hidden

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from splitfl.accounting.flops import cost
from splitfl.config import NoSettings, RunConfig
from splitfl.config.codec import DELTA, stages_of
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Begin, Done, Message, Reply
from splitfl.core.state import State, copied, numbered, part, tensor_in, under
from splitfl.data.batch import Batch
from splitfl.data.loader import NOTHING_TO_PREDICT, Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.body_batch import BodyBatch, joined
from splitfl.methods.parts.joint_step import client_steps
from splitfl.methods.parts.label_counts import are_token_labels
from splitfl.methods.parts.local_update import LocalParts, LocalUpdate, LocalUpdateSpec
from splitfl.methods.parts.method import (
    ClientMethod,
    ClientRound,
    Pieces,
    ServerMethod,
    ServerReply,
    Turn,
    unexpected,
)
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.server_model import ServerModel
from splitfl.methods.parts.split_pass import Backpropagation, SplitPass
from splitfl.models.cut import Piece
from splitfl.models.families import SEQ2SEQ_LM
from splitfl.models.token_rows import pack, unpack


class FrozenClient:
    """Runs the head once per sample; later batches are sent as sample ids without activations."""

    def __init__(self, head: Piece, batches: Batches, steps: int) -> None:
        self._head = head
        self._batches = batches
        self._steps = steps
        self._known: set[int] = set()
        self._flops = 0.0

    def round(self, round_index: int) -> ClientRound:
        yield Begin(steps=self._steps)
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(self._head.model.device)
            ids = batch.ids_B.tolist()
            if self._known.issuperset(ids):
                yield Activation(ids_B=batch.ids_B, hidden=None)
                continue
            with torch.no_grad():
                hidden_BTD = self._head(batch.inputs, {})
            self._flops += cost(self._head, *hidden_BTD.shape[:2]).forward_flops
            context = self._head.context_of(batch.inputs)
            hidden = pack(hidden_BTD, context.get("mask"))
            reply = yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels)
            if isinstance(reply, Done):  # after a lost reply they are sent again
                self._known.update(ids)

    def take_flops(self) -> float:
        spent, self._flops = self._flops, 0.0
        return spent

    def state(self) -> State:
        return {"known": torch.tensor(sorted(self._known), dtype=torch.int64)}

    def restore(self, state: State) -> None:
        self._known = set(tensor_in(state, "known").tolist())


class FrozenHead:
    """The frozen head of a controlled client: a forward pass for every batch, without a cache."""

    upload_interval = 1

    def __init__(self, passes: SplitPass) -> None:
        self._passes = passes

    def begin(self, round_index: int, rank: int) -> None:
        pass

    def forward(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        return pack(self._passes.forward(batch, needs_backward=False), context.get("mask"))

    def on_reply(self, reply: Reply | None, context: Mapping[str, Tensor]) -> bool:
        return False


class FrozenServer:
    """Trains the body on activations, received now or cached by client and sample."""

    def __init__(self, body: ServerModel) -> None:
        self._body = body
        self._cache: dict[tuple[int, int], BodyBatch] = {}  # one sample each, without padding on the right

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation():
                return self.compute_batch([turn], [message])[0]
            case Begin():
                return ServerReply(reply=Done())
        raise unexpected("frozen", message)

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Activation]) -> list[ServerReply]:
        of_turns = list(zip(turns, messages, strict=True))
        batches = [self._batch(turn, message) for turn, message in of_turns]
        steps = [self._body.training_step(turn, message.ids_B, turn.lap - 1) for turn, message in of_turns]
        return [
            ServerReply(
                reply=Done(),
                flops=own.flops,
                losses=(own.loss,),
                samples=len(batch.labels),
                change=own.change,
            )
            for batch, own in zip(
                batches,
                client_steps(self._body, turns, batches, steps, wants_hidden_grad=False),
                strict=True,
            )
        ]

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        self._body.commit(turn, reply.change if reply is not None else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._body.trained()

    def state(self) -> State:
        held: dict[str, Tensor] = {}
        for (client, sample), cached in self._cache.items():
            context = {key: tensor[0] for key, tensor in cached.context.items()}
            tensors = {"hidden": cached.hidden_BTD[0], "label": cached.labels[0], **under("context", context)}
            held |= under(f"{client}.{sample}", copied(tensors))
        return under("body", self._body.state()) | under("cache", held)

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._cache = {
            (client, sample): BodyBatch(
                hidden_BTD=tensors["hidden"][None],
                labels=tensors["label"][None],
                context={key: tensor[None] for key, tensor in part(tensors, "context").items()},
            )
            for client, samples in numbered(part(state, "cache")).items()
            for sample, tensors in numbered(samples).items()
        }

    def _batch(self, turn: Turn, message: Activation) -> BodyBatch:
        """The message's samples: those that it brings, which are cached, or those cached before."""
        names = [(turn.client, identity) for identity in message.ids_B.tolist()]
        if message.hidden is not None and message.labels is not None:
            batch = self._store(names, message.hidden, message.context, message.labels)
        elif self._cache.keys() >= set(names):
            batch = joined([self._cache[name] for name in names])
        else:
            raise unexpected("frozen", message)
        return replace(batch, hidden_BTD=batch.hidden_BTD.to(self._body.piece.model.device))

    def _store(
        self,
        names: Sequence[tuple[int, int]],
        hidden: Tensor,
        context: Mapping[str, Tensor],
        labels: Tensor,
    ) -> BodyBatch:
        """Caches the samples of a batch without padding; returns the batch unpacked."""
        hidden_BTD = unpack(hidden, context.get("mask"))
        for row, name in enumerate(names):
            own = {key: tensor[row : row + 1] for key, tensor in context.items()}
            length = int(own["mask"][0].nonzero().max()) + 1 if "mask" in own else hidden_BTD.shape[1]
            label = labels[row : row + 1]
            self._cache[name] = BodyBatch(
                hidden_BTD=hidden_BTD[row : row + 1, :length].clone(),
                context={
                    key: tensor[:, :length] if tensor.ndim > 1 else tensor for key, tensor in own.items()
                },
                labels=self._label(label, length) if are_token_labels(labels) else label,
            )
        return BodyBatch(hidden_BTD=hidden_BTD, context=context, labels=labels)

    def _label(self, label_1T: Tensor, length: int) -> Tensor:
        """The labels of one sample of `length` tokens without padding; an answer has a length of its own."""
        if self._body.piece.kind == SEQ2SEQ_LM:
            length = int((label_1T[0] != NOTHING_TO_PREDICT).nonzero().max()) + 1
        return label_1T[:, :length].clone()


def local_update(parts: LocalParts) -> LocalUpdate:
    """The frozen head of a controlled client."""
    settings = parts.config.method.find(Backpropagation) or Backpropagation()  # those of the run's own method
    return FrozenHead(SplitPass(parts.trainer, settings, parts.head))


def refuse_differences(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for activations as differences from earlier ones of the same sample."""
    (name, _), *_ = stages_of(config.codec.activation)
    if name == DELTA:
        raise ConfigError(
            f"codec.activation must not send differences with the method {config.method.name!r}, which sends "
            f"each sample's activation once, got {config.codec.activation!r}"
        )


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with a head without adapters."""
    return FrozenClient(pieces.head(is_bare=True), batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side."""
    return FrozenServer(ServerModel.of(pieces.body(), config))


_SPLITFROZEN = """@article{splitfrozen2025,
  title = {{SplitFrozen}: Split Learning with Device-side Model Frozen for Fine-Tuning {LLM} on
    Heterogeneous Resource-Constrained Devices},
  journal = {arXiv preprint arXiv:2503.18986},
  year = {2025}
}"""

SPEC = spec.MethodSpec(
    about="frozen head: each sample's activation is sent once, and no gradient comes back",
    bibtex=(_SPLITFROZEN, LORA),
    client=client,
    server=server,
    signature=spec.Signature(begin=Done, step=((Activation, Done),), end=None),
    sends={
        "activation": spec.Tolerance(
            policies=spec.NO_ERASURE,
            why_not="its server caches activations for later epochs, so an erased token would stay erased",
        )
    },
    labels="sent",
    activations="once",
    settings=NoSettings,
    shared=spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER,
    aggregators=spec.FACTORS,
    holds=("head",),
    asynchronous="its clients upload no updates that an asynchronous server could aggregate",
    single_pass=spec.NOT_ONCE,
    summable=spec.NO_ADAPTERS,
    server_batch=True,
    backpropagates=False,
    dropout=("head", "body"),
    shardable=True,
    local_update=LocalUpdateSpec(make=local_update, trains_head=False),
    refusals=(refuse_differences,),
)
