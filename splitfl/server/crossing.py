"""The record of one message on one client's link, from its sender's work to its delivery."""

from dataclasses import dataclass, replace
from typing import Self

from channel.core.link import Delivery, Transfer
from splitfl.core.messages import Message
from splitfl.wire import Envelope


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a message puts on a link: bytes, how they are recovered and cut as in a `Transfer`, and symbols.

    `symbols` are sent uncoded behind the bytes, at `symbol_hz` a second.
    """

    payload_bytes: int
    recovery: str = "acknowledged"
    reliable_bytes: int = 0
    unit_bytes: int = 1
    symbols: int = 0
    symbol_hz: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Crossing:
    """A message on its way, and once it has `landed` its delivery.

    `start_s` is when its sender started to compute it, in seconds of virtual time; `frame` is a reply
    as sent.
    """

    envelope: Envelope
    message: Message
    start_s: float
    load: Load
    transfer: Transfer
    frame: bytes = b""
    delivery: Delivery | None = None

    @property
    def outcome(self) -> Delivery:
        """The delivery of a message that has landed."""
        assert self.delivery is not None, "a message is on its way until its link has delivered it"
        return self.delivery

    @property
    def at_s(self) -> float:
        """When it was at the other end, or was given up."""
        return self.outcome.finish_s

    def landed(self, delivery: Delivery, power_w: float) -> Self:
        """With the link's delivery of its bytes, and behind them the symbols, radiated at `power_w`."""
        symbols_s = self.load.symbols / self.load.symbol_hz
        whole = delivery
        if symbols_s:
            whole = replace(
                delivery,
                finish_s=delivery.finish_s + symbols_s,
                airtime_s=delivery.airtime_s + symbols_s,
                energy_j=delivery.energy_j + power_w * symbols_s,
            )
        return replace(self, delivery=whole)
