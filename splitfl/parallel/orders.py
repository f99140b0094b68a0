"""What rank 0 orders the other ranks to do, as bytes; nothing in it is executed or unpickled."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

import msgspec
import safetensors.torch
from torch import Tensor

from splitfl.core.messages import Message
from splitfl.methods.parts.method import Turn
from splitfl.wire import Envelope, Frame, encode

Verb = Literal["make", "compute", "commit", "end_round", "restore", "measure", "memory", "idle", "stop"]


@dataclass(frozen=True, kw_only=True)
class Order:
    """A call of the server's method, or of the crew itself; `content` has its message or tensors."""

    verb: Verb
    client: int = 0
    round: int = 0
    lap: int = 0
    position: int = 0
    is_kept: bool = True
    content: bytes = b""

    @classmethod
    def compute(cls, turn: Turn, message: Message) -> "Order":
        """Computes the reply to a client's message, which travels as a frame."""
        return cls.at(turn, "compute", encode(message, Envelope(client=turn.client, round=0, lap=0)))

    @classmethod
    def commit(cls, turn: Turn, *, is_kept: bool) -> "Order":
        """Applies the reply computed in this turn; or, unless it `is_kept`, none."""
        return replace(cls.at(turn, "commit"), is_kept=is_kept)

    @classmethod
    def at(cls, turn: Turn, verb: Verb, content: bytes = b"") -> "Order":
        """An order of a turn."""
        return cls(
            verb=verb,
            client=turn.client,
            round=turn.round,
            lap=turn.lap,
            position=turn.position,
            content=content,
        )

    @classmethod
    def of_tensors(cls, verb: Verb, tensors: Mapping[str, Tensor]) -> "Order":
        """An order with tensors by name."""
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        return cls(verb=verb, content=safetensors.torch.save(plain))

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors of an order with tensors."""
        return safetensors.torch.load(self.content)

    @property
    def turn(self) -> Turn:
        """The turn of an order to compute or to commit."""
        return Turn(client=self.client, round=self.round, lap=self.lap, position=self.position)

    @property
    def message(self) -> Message:
        """The message of an order to compute."""
        message = Frame(self.content).message()
        assert isinstance(message, Message)
        return message


_DECODER: Final = msgspec.msgpack.Decoder(Order)


def encoded(order: Order) -> bytes:
    """The order as bytes."""
    return msgspec.msgpack.encode(order)


def decoded(data: bytes) -> Order:
    """The order of these bytes; raises msgspec.ValidationError for others."""
    return _DECODER.decode(data)
