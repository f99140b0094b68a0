"""`frozen`: the head is frozen, so each sample's activation is sent once.

SplitFrozen (arXiv 2503.18986): the server caches the activations and trains from its cache in all later
epochs. The downlink carries acknowledgements only, and no adapters are uploaded.
"""

# B batch, T tokens, D hidden, n real tokens of one sample

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.accounting.flops import cost
from splitfl.config import NoSettings, RunConfig
from splitfl.config.codec import DELTA, stages_of
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Begin, Done, Message, Reply
from splitfl.core.state import State, copied, numbered, part, tensor_in, under
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
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


@dataclass(frozen=True, kw_only=True, eq=False)
class CachedSample:
    """One sample in the server's cache: its row of each tensor, without padding on the right."""

    hidden_TD: Tensor
    context: Mapping[str, Tensor]
    label: Tensor


class FrozenServer:
    """Trains the body on activations, received now or cached by client and sample."""

    def __init__(self, body: ServerModel) -> None:
        self._body = body
        self._cache: dict[tuple[int, int], CachedSample] = {}

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation():
                return self._train_step(turn, message)
            case Begin():
                return ServerReply(reply=Done())
        raise unexpected("frozen", message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        self._body.commit(turn, reply.change if reply is not None else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._body.trained()

    def state(self) -> State:
        held: dict[str, Tensor] = {}
        for (client, sample), cached in self._cache.items():
            tensors = {"hidden": cached.hidden_TD, "label": cached.label, **under("context", cached.context)}
            held |= under(f"{client}.{sample}", copied(tensors))
        return under("body", self._body.state()) | under("cache", held)

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._cache = {
            (client, sample): CachedSample(
                hidden_TD=tensors["hidden"], label=tensors["label"], context=part(tensors, "context")
            )
            for client, samples in numbered(part(state, "cache")).items()
            for sample, tensors in numbered(samples).items()
        }

    def _train_step(self, turn: Turn, message: Activation) -> ServerReply:
        piece = self._body.piece
        names = [(turn.client, identity) for identity in message.ids_B.tolist()]
        if message.hidden is not None and message.labels is not None:
            hidden_BTD, context, labels = self._store(names, message.hidden, message.context, message.labels)
        elif self._cache.keys() >= set(names):
            hidden_BTD, context, labels = batch_of([self._cache[name] for name in names])
        else:
            raise unexpected("frozen", message)
        step = self._body.compute(
            turn.position,
            hidden_BTD.to(piece.model.device),
            context,
            labels,
            self._body.training_step(turn, message.ids_B, turn.lap - 1),
            wants_hidden_grad=False,
        )
        return ServerReply(
            reply=Done(),
            flops=step.flops,
            losses=(step.loss,),
            samples=len(names),
            change=step,
        )

    def _store(
        self,
        names: Sequence[tuple[int, int]],
        hidden: Tensor,
        context: Mapping[str, Tensor],
        labels: Tensor,
    ) -> tuple[Tensor, Mapping[str, Tensor], Tensor]:
        """Caches the samples of a batch without padding; returns the batch unpacked, (B, T, D)."""
        hidden_BTD = unpack(hidden, context.get("mask"))
        for row, name in enumerate(names):
            own = {key: tensor[row] for key, tensor in context.items()}
            length = int(own["mask"].nonzero().max()) + 1 if "mask" in own else hidden_BTD.shape[1]
            self._cache[name] = CachedSample(
                hidden_TD=hidden_BTD[row, :length].clone(),
                context={key: tensor[:length] if tensor.ndim else tensor for key, tensor in own.items()},
                label=self._label(labels[row], length) if _are_token_labels(labels) else labels[row],
            )
        return hidden_BTD, context, labels

    def _label(self, label: Tensor, length: int) -> Tensor:
        """The labels of one sample of `length` tokens without padding; an answer has a length of its own."""
        if self._body.piece.kind == SEQ2SEQ_LM:
            length = int((label != -100).nonzero().max()) + 1
        return label[:length].clone()


def batch_of(samples: Sequence[CachedSample]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Hidden state (B, T, D), context and labels of cached samples, padded on the right."""
    length = max(len(sample.hidden_TD) for sample in samples)
    hidden_BTD = torch.stack([_padded(sample.hidden_TD, length, 0) for sample in samples])
    masks = [sample.context.get("mask") for sample in samples]
    mask_BT = torch.stack(
        [
            _padded(torch.ones(len(sample.hidden_TD), dtype=torch.bool) if mask is None else mask, length, 0)
            for sample, mask in zip(samples, masks, strict=True)
        ]
    )
    context = {
        key: torch.stack([_padded(tensor, length, 0) if tensor.ndim else tensor for tensor in tensors])
        for key in samples[0].context
        if key != "mask"
        for tensors in [[sample.context[key] for sample in samples]]
    }
    width = max(len(sample.label) if sample.label.ndim else 0 for sample in samples)
    labels = torch.stack(
        [
            _padded(sample.label, width, -100) if _are_token_labels(sample.label[None]) else sample.label
            for sample in samples
        ]
    )
    mask = {} if bool(mask_BT.all()) else {"mask": mask_BT}  # omitted without padding, as in messages
    return hidden_BTD, context | mask, labels


def _are_token_labels(labels: Tensor) -> bool:
    """Whether labels are (B, T) of tokens; those of several classes per sample are floating-point."""
    return labels.ndim > 1 and not labels.is_floating_point()


def _padded(row: Tensor, length: int, value: float) -> Tensor:
    missing = length - len(row)
    return torch.nn.functional.pad(row, (0, 0) * (row.ndim - 1) + (0, missing), value=value)


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
    settings=NoSettings,
    shared=spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER,
    aggregators=spec.FACTORS,
    holds=("head",),
    asynchronous="its clients upload no updates that an asynchronous server could aggregate",
    single_pass=spec.NOT_ONCE,
    summable=spec.NO_ADAPTERS,
    backpropagates=False,
    dropout=("head", "body"),
    local_update=LocalUpdateSpec(make=local_update, trains_head=False),
    refusals=(refuse_differences,),
)
