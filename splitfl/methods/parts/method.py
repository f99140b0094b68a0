"""The interface of a finetuning method: a client generator and a server object, both free of I/O."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.core.messages import Activation, Message, Plan, Reply, WeightGradients
from splitfl.core.state import State
from splitfl.models.cut import Piece

Batched = Activation | WeightGradients
"""Messages of which the server may take several as one batch."""

ClientRound = Generator[Message, Reply, None]
"""Yields the client's messages in order; is resumed with the reply to each, or LOST."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """The sender of a message and its index: `lap` within the client's round, `position` within the run.

    `plan` is the controller's plan for the client in this round, None without a controller.
    """

    client: int
    round: int
    lap: int
    position: int
    plan: Plan | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ServerReply:
    """The server's result for one message, before any state has changed.

    `losses` are mean losses of batches, of `samples` samples in all; `flops` counts the computation;
    `change` is the argument of `commit`. `step` is the client's step in this round that the first loss
    belongs to (None: one step per message after Begin). `staleness` is the number of versions since the
    one that an upload started from.
    """

    reply: Message
    flops: float = 0.0
    losses: tuple[float, ...] = ()
    samples: int = 0
    step: int | None = None
    staleness: int | None = None
    change: Any = None


class Pieces(Protocol):
    """The pieces of the model for one side; each call loads one."""

    def head(self, cut: int | None = None, *, is_bare: bool = False) -> Piece:
        """The piece below the cut, or below another `cut`; without adapters if `is_bare`."""

    def body(self, cut: int | None = None) -> Piece:
        """The piece from the cut, or from another `cut`, to the tail or, without one, to the end."""

    def tail(self) -> Piece:
        """The client's last piece of the model, in U-shaped split learning."""

    def auxiliary(self) -> Piece:
        """A small model that replaces the body in local training; see `auxiliary`."""

    def whole(self) -> Piece:
        """The whole model as one piece."""


class ClientMethod(Protocol):
    """One client's side of a method."""

    def round(self, round_index: int) -> ClientRound:
        """Runs a round: a generator of the client's messages."""

    def take_flops(self) -> float:
        """FLOPs since the last call."""

    def state(self) -> State:
        """The state at the end of a round, from which `restore` continues bit for bit."""

    def restore(self, state: State) -> None:
        """Continues from this state."""


class ServerMethod(Protocol):
    """The server's side of a method.

    `compute` may run for several turns concurrently and changes no state; `commit` runs for one
    turn at a time, in the order of positions.
    """

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        """The reply to a message; WireError for a message that the method does not expect."""

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        """Applies the change of a reply to the state; None for a message that was lost."""

    def end_round(self, round_index: int) -> None:
        """Ends a round after its last `commit`, such as by averaging."""

    def trained(self) -> Mapping[str, Tensor]:
        """A snapshot of every trained tensor on the server, by its name in the unsplit model."""

    def state(self) -> State:
        """The state at the end of a round, from which `restore` continues bit for bit."""

    def restore(self, state: State) -> None:
        """Continues from this state."""


@runtime_checkable
class BatchServer(ServerMethod, Protocol):
    """The server's side of a method that can take one step on the messages of several clients.

    This is needed for `method.server_batch` above 1 and where the specification has `waits_for_all`. At most
    one step is then in flight.
    """

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Batched]) -> list[ServerReply]:
        """The replies to the messages of these turns, computed as one batch; changes no state.

        With one message it is `compute`. The last reply's `change` is the step.
        """


def unexpected(method: str, message: Message) -> WireError:
    """The error for a message that the method does not expect in its current state."""
    return WireError(
        f"unexpected {type(message).__name__}: the method {method!r} has no reply to it in this state"
    )
