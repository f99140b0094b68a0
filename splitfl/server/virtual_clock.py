"""Virtual time: when each message is sent, delivered and answered, and the record of each that crosses.

Work takes its FLOPs over the device's declared rate, a message what the link says. The
same messages in the same order give the same times on every transport, so a run over
RPC and one in a single process tell the same story; the wall clock is kept apart.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from channel.core.link import DIRECTIONS, Delivery, Transfer
from splitfl.accounting.ledger import Ledger
from splitfl.core.events import Events
from splitfl.core.messages import Control, Message
from splitfl.core.state import State, tensor_in
from splitfl.methods.parts.method import Turn
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
    def kind(self) -> str:
        """The name of the message's class; `Control` for all without tensors."""
        return "Control" if isinstance(self.message, Control) else type(self.message).__name__

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


class VirtualClock:
    """The clocks at both ends of every client's link, and what crossed it.

    `client_flops` and `server_flops` are floating-point operations a second; the server
    works on at most `slots` messages at the same time.
    """

    def __init__(
        self,
        client_flops: float,
        server_flops: float,
        slots: int,
        ledger: Ledger,
        events: Events,
        each_flops: Sequence[float] = (),
    ) -> None:
        """`each_flops` are the clients' rates where they differ."""
        self._client_flops = client_flops
        self._each_flops = each_flops
        self._server_flops = server_flops
        self._ledger = ledger
        self._events = events
        self._ready_s: dict[int, float] = defaultdict(float)
        self._slot_free_s = [0.0] * slots
        self._finished_s = 0.0
        self._round_began_s = 0.0
        self._sequence: dict[tuple[int, str], int] = defaultdict(int)

    def depart_up(
        self, envelope: Envelope, message: Message, load: Load, not_before_s: float = 0.0
    ) -> Crossing:
        """A client computes for as long as its FLOPs take, then sends.

        Several messages may be on their way at the same time, so what they cost is counted
        when `serve` or `lost` says, in the order of their turns, what has become of each.
        """
        start_s = self._ready_s[envelope.client]
        sent_s = max(start_s + envelope.flops / self._rate(envelope.client), not_before_s)
        transfer = self._transfer("up", envelope, load, sent_s)
        return Crossing(envelope=envelope, message=message, start_s=start_s, load=load, transfer=transfer)

    def depart_down(
        self, envelope: Envelope, message: Message, load: Load, sent_s: float, frame: bytes
    ) -> Crossing:
        """The server sends a reply."""
        transfer = self._transfer("down", envelope, load, sent_s)
        return Crossing(
            envelope=envelope, message=message, start_s=sent_s, load=load, transfer=transfer, frame=frame
        )

    def serve(self, up: Crossing, flops: float) -> float:
        """When the server has its reply; replies are ready in the order of their turns."""
        envelope = up.envelope
        self._arrived(up, is_lost=False)
        slot = min(range(len(self._slot_free_s)), key=self._slot_free_s.__getitem__)
        earliest_s = self._round_began_s if envelope.lap == 0 else up.at_s
        start_s = max(up.at_s, earliest_s, self._slot_free_s[slot] if flops else 0.0)
        worked_s = start_s + flops / self._server_flops
        if flops:
            self._slot_free_s[slot] = worked_s
            self._compute("server", envelope, flops, start_s, worked_s)
        finish_s = max(worked_s, self._finished_s) if envelope.lap else worked_s
        self._finished_s = max(self._finished_s, finish_s)
        return finish_s

    def lost(self, up: Crossing, now_s: float = 0.0) -> None:
        """Nothing came of a message; its client continues when the link has given up, or at `now_s`."""
        self._arrived(up, is_lost=True)
        self._ready_s[up.envelope.client] = max(up.at_s, now_s)
        self._finished_s = max(self._finished_s, up.at_s)

    def late(self, up: Crossing, due_s: float) -> None:
        """A message came after its round had ended at `due_s`; its client continues once it has sent it."""
        self._arrived(up, is_lost=True)
        self._ready_s[up.envelope.client] = up.at_s
        self._finished_s = max(self._finished_s, due_s)

    def aged(self, turn: Turn, staleness: int) -> None:
        """A client's work came in that had begun from a version so old."""
        self._ledger.aged(staleness)
        self._events.write("update", round=turn.round, client=turn.client, staleness=staleness)

    @property
    def round_began_s(self) -> float:
        """When the round before was over for everyone."""
        return self._round_began_s

    def ready_s(self, client: int) -> float:
        """When this client heard the last answer."""
        return self._ready_s[client]

    def delivered(self, down: Crossing, *, is_lost: bool) -> None:
        """A reply has reached its client, or what is left of it."""
        self._crossed(down, is_lost=is_lost)
        self._ready_s[down.envelope.client] = down.at_s

    def state(self) -> State:
        """Every clock and count; see Stateful."""
        ready, sequence = sorted(self._ready_s.items()), sorted(self._sequence.items())
        ways = [[client, DIRECTIONS.index(way), count] for (client, way), count in sequence]
        return {
            "ready_s": torch.tensor(ready, dtype=torch.float64),
            "slot_free_s": torch.tensor(self._slot_free_s, dtype=torch.float64),
            "round_s": torch.tensor([self._finished_s, self._round_began_s], dtype=torch.float64),
            "sequence": torch.tensor(ways, dtype=torch.int64),
        }

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._ready_s.clear()
        self._ready_s |= {int(client): at_s for client, at_s in tensor_in(state, "ready_s").tolist()}
        self._slot_free_s = tensor_in(state, "slot_free_s").tolist()
        self._finished_s, self._round_began_s = tensor_in(state, "round_s").tolist()
        self._sequence.clear()
        self._sequence |= {
            (client, DIRECTIONS[way]): count for client, way, count in tensor_in(state, "sequence").tolist()
        }

    def end_round(self) -> float:
        """The virtual time at which the round is over for everyone."""
        self._round_began_s = self._finished_s
        return self._finished_s

    def _rate(self, client: int) -> float:
        return self._each_flops[client] if self._each_flops else self._client_flops

    def _transfer(self, direction: str, envelope: Envelope, load: Load, sent_s: float) -> Transfer:
        sequence = self._sequence[envelope.client, direction]
        self._sequence[envelope.client, direction] += 1
        return Transfer(
            client=envelope.client,
            direction=direction,
            sequence=sequence,
            payload_bytes=load.payload_bytes,
            start_s=sent_s,
            recovery=load.recovery,
            reliable_bytes=load.reliable_bytes,
            unit_bytes=load.unit_bytes,
        )

    def _arrived(self, up: Crossing, *, is_lost: bool) -> None:
        envelope = up.envelope
        worked_s = up.start_s + envelope.flops / self._rate(envelope.client)
        self._compute("client", envelope, envelope.flops, up.start_s, worked_s)
        self._crossed(up, is_lost=is_lost)

    def _crossed(self, crossing: Crossing, *, is_lost: bool) -> None:
        envelope, transfer, delivery = crossing.envelope, crossing.transfer, crossing.outcome
        symbols = crossing.load.symbols
        self._ledger.crossed(
            envelope.round,
            envelope.client,
            transfer.direction,
            transfer.payload_bytes,
            delivery,
            is_lost=is_lost,
            symbols=symbols,
        )
        self._events.write(
            "transfer",
            round=envelope.round,
            client=envelope.client,
            direction=transfer.direction,
            kind=crossing.kind,
            payload_bytes=transfer.payload_bytes,
            packets=delivery.packets,
            lost_packets=delivery.packets - int(delivery.arrived.sum()),
            symbols=symbols,
            retransmissions=delivery.retransmissions,
            airtime_s=delivery.airtime_s,
            energy_j=delivery.energy_j,
            start_s=transfer.start_s,
            finish_s=delivery.finish_s,
            lost=is_lost,
        )

    def _compute(self, side: str, envelope: Envelope, flops: float, start_s: float, finish_s: float) -> None:
        if flops:
            self._ledger.computed(envelope.round, side, envelope.client, flops)
            self._events.write(
                "compute",
                round=envelope.round,
                side=side,
                client=envelope.client,
                flops=flops,
                start_s=start_s,
                finish_s=finish_s,
            )
