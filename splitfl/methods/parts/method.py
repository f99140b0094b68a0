"""What a finetuning method is: a client generator and a server object, neither of which does any I/O."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.core.messages import Message, Plan, Reply
from splitfl.core.state import State
from splitfl.models.cut import Piece

ClientRound = Generator[Message, Reply, None]
"""Yields what the client sends, in order; is resumed with the answer to each, or LOST."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """Whose message this is and its place: lap in the round, position in the whole run.

    `plan` is what its client is to do in this round, where that is decided from round to round.
    """

    client: int
    round: int
    lap: int
    position: int
    plan: Plan | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class ServerReply:
    """What the server made of one message, before anything has changed.

    `losses` are means over their share of `samples`; `change` is whatever `commit` needs to
    apply it. `step` says which of the client's steps in this round the first loss is of, where
    that is not one for each message after `begin`. `staleness` is how many versions there have
    been since the one from which a client's work began, where this message brings it.
    """

    reply: Message
    flops: float = 0.0
    losses: tuple[float, ...] = ()
    samples: int = 0
    step: int | None = None
    staleness: int | None = None
    change: Any = None


class Pieces(Protocol):
    """The pieces of the model, for one side; each is loaded when it is asked for."""

    def head(self, cut: int | None = None, *, is_bare: bool = False) -> Piece:
        """What is below the cut, or another; without adapters where it `is_bare`."""

    def body(self, cut: int | None = None) -> Piece:
        """From the cut, or another, to the tail, or to the end where there is none."""

    def tail(self) -> Piece:
        """The client's own end of the model."""

    def auxiliary(self) -> Piece:
        """A small stand-in for what is above the cut."""

    def whole(self) -> Piece:
        """The model, not cut."""


class ClientMethod(Protocol):
    """One client's side of a method."""

    def round(self, round_index: int) -> ClientRound:
        """This client's part in a round."""

    def take_flops(self) -> float:
        """Floating-point operations spent since this was last asked."""

    def state(self) -> State:
        """All that this client must remember from one round to the next."""

    def restore(self, state: State) -> None:
        """Goes on as after the round in which this was the state."""


class ServerMethod(Protocol):
    """The server's side of a method.

    `compute` may run for several tickets at the same time and changes nothing; `commit`
    runs for one ticket at a time, in the order of their positions.
    """

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        """The answer to a message, from the state that its position stands for."""

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        """Makes an outcome part of the state; None stands for a message that was lost."""

    def end_round(self, round_index: int) -> None:
        """All turns of the round are over."""

    def trained(self) -> Mapping[str, Tensor]:
        """Every trained tensor the server knows, by its name in the unsplit model."""

    def state(self) -> State:
        """All that the server must remember from one round to the next."""

    def restore(self, state: State) -> None:
        """Goes on as after the round in which this was the state."""


def unexpected(method: str, message: Message) -> WireError:
    """The error for a message that a method has no answer to."""
    return WireError(f"the method {method!r} has no answer to this {type(message).__name__}")
