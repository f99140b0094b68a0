"""How a client learns within a round: one update a batch, the same for a plain and a controlled client."""

# B batch, T tokens, D hidden, N real tokens

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Activation, Message, Reply
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.method import ClientRound
from splitfl.models.cut import Piece


class LocalUpdate(Protocol):
    """How a head learns from a batch: before its activation is sent, from the reply, or not at all."""

    upload_interval: int
    """The activation of the first batch of so many is sent."""

    def begin(self, round_index: int, rank: int) -> None:
        """A controlled client begins a round in which so many ranks of its LoRA learn."""

    def forward(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """The hidden state (N, D) of the batch from before anything is learnt from it, without a graph."""

    def on_reply(self, reply: Reply | None, context: Mapping[str, Tensor]) -> bool:
        """Learns from the reply, None where nothing was sent; whether anything was learnt from the batch."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalParts:
    """What a local update is made of: the client's trainer, and its head up to one cut.

    `auxiliary` is there for an update that needs it. The head learns at `head_lr`, None: at train.head_lr.
    """

    trainer: ClientTrainer
    head: Piece
    auxiliary: Piece | None
    client: int
    config: RunConfig
    head_lr: float | None


@dataclass(frozen=True, kw_only=True)
class LocalUpdateSpec:
    """The local update of a method between which and others the controller may choose from round to round.

    All of them have one body, and one head, which is averaged. `awaits_gradient` says whether the gradient
    at the cut is sent down, `learns` whether the head learns and is sent in, `needs_auxiliary` whether that
    takes an auxiliary, which is averaged with it.
    """

    make: Callable[[LocalParts], LocalUpdate]
    awaits_gradient: bool = False
    learns: bool = True
    needs_auxiliary: bool = False


class AveragedClient:
    """A client by one local update whose trainer's adapters are averaged once a round."""

    def __init__(self, trainer: ClientTrainer, update: LocalUpdate, batches: Batches, steps: int) -> None:
        self._trainer = trainer
        self._update = update
        self._batches = batches
        self._steps = steps
        self.take_flops = trainer.take_flops
        self.state = trainer.state
        self.restore = trainer.restore

    def round(self, round_index: int) -> ClientRound:
        steps = local_steps(self._update, self._trainer.piece, self._batches, self._steps, round_index)
        return self._trainer.round(round_index, num_uploads(self._update, self._steps) + 1, steps)


def num_uploads(update: LocalUpdate, steps: int) -> int:
    """How many activations are sent in a round of so many steps."""
    return len(range(0, steps, update.upload_interval))


def local_steps(
    update: LocalUpdate,
    head: Piece,
    batches: Batches,
    steps: int,
    round_index: int,
    *,
    in_place_of_upload: Message | None = None,
) -> Generator[Message, Reply, int]:
    """The steps of a round; the number of samples that something was learnt from.

    A step without an upload sends `in_place_of_upload`, if that is a message.
    """
    samples = 0
    for step in range(steps):
        batch = batches.batch(round_index * steps + step).to(head.model.device)
        context = head.context_of(batch.inputs)
        hidden = update.forward(batch, context, round_index, step)
        message, reply = in_place_of_upload, None
        if not step % update.upload_interval:
            message = Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels)
        if message is not None:
            reply = yield message
        samples += len(batch.ids_B) * update.on_reply(reply, context)
    return samples
