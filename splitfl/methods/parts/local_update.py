"""Local training within a round: one update per batch, for a plain and for a controlled client."""

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
    """Updates a head from a batch: before its activation is sent, from the reply, or never."""

    upload_interval: int
    """The activation of every such batch is sent, beginning with the first of the round."""

    def begin(self, round_index: int, rank: int) -> None:
        """Starts a round of a controlled client, in which the first `rank` ranks of its LoRA are trained."""

    def forward(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        """The hidden state (N, D) at the parameters before this batch's update, without a graph."""

    def on_reply(self, reply: Reply | None, context: Mapping[str, Tensor]) -> bool:
        """Updates the head from the reply (None: nothing was sent); returns whether the batch was used."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LocalParts:
    """The inputs of `LocalUpdateSpec.make`: the client's trainer, and its head up to one cut.

    `auxiliary` is set for an update that needs it. `head_lr` is the head's learning rate (None:
    train.head_lr).
    """

    trainer: ClientTrainer
    head: Piece
    auxiliary: Piece | None
    client: int
    config: RunConfig
    head_lr: float | None


@dataclass(frozen=True, kw_only=True)
class LocalUpdateSpec:
    """The local update of a method that the controller may assign to a client from round to round.

    All such methods share one body and one averaged head. With `awaits_gradient` the server sends the
    gradient at the cut; with `trains_head` the head is trained and uploaded; with `needs_auxiliary` training
    uses an auxiliary model, which is averaged with the head.
    """

    make: Callable[[LocalParts], LocalUpdate]
    awaits_gradient: bool = False
    trains_head: bool = True
    needs_auxiliary: bool = False


class AveragedClient:
    """A client with one local update, whose adapters are averaged once a round."""

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
    """The number of activations sent in a round of `steps` steps."""
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
    """Yields the messages of a round's steps; returns the number of samples that updated the head.

    A step without an upload yields `in_place_of_upload`, if given.
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
