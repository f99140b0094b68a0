"""Virtual time: when each message is sent, delivered and answered, and the record of each crossing.

Computation takes its FLOPs over the device's declared rate, a message the time of its link. The
same messages in the same order have the same times on every transport, so that a run over RPC
and one in a single process have equal events; wall time is separate.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from channel.core.link import DIRECTIONS, Delivery, Link, Transfer
from splitfl.accounting.ledger import Ledger
from splitfl.core.events import Events
from splitfl.core.messages import Adapter, AdapterDelta, Control, Message
from splitfl.core.state import State, tensor_in
from splitfl.methods.parts.method import Turn
from splitfl.wire import Envelope
from splitfl.wire.row_split import Mask, mask_bytes


@dataclass(frozen=True, kw_only=True)
class Load:
    """The link load of a message: bytes, their recovery and units as in a `Transfer`, and analog symbols.

    `symbols` are sent uncoded after the bytes, `symbol_hz` per second. `sent_N` (N,) are the rows that are
    sent, where the others are known to be zeros; None: all.
    """

    payload_bytes: int
    recovery: str = "acknowledged"
    reliable_bytes: int = 0
    unit_bytes: int = 1
    symbols: int = 0
    symbol_hz: float = 1.0
    sent_N: Mask | None = None

    def only(self, sent_N: Mask) -> Self:
        """The load if only these rows are sent, behind a mask of all rows in the reliable part."""
        if sent_N.all():
            return self
        reliable_bytes = self.reliable_bytes + mask_bytes(sent_N.size)
        payload_bytes = reliable_bytes + int(sent_N.sum()) * self.unit_bytes
        return replace(self, payload_bytes=payload_bytes, reliable_bytes=reliable_bytes, sent_N=sent_N)


@dataclass(frozen=True, kw_only=True, eq=False)
class Crossing:
    """A message in flight, and after `landed` its delivery.

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
        """The name of the message's class; `Control` for all without tensors, `Adapter` also if encoded."""
        if isinstance(self.message, AdapterDelta):
            return Adapter.__name__
        return "Control" if isinstance(self.message, Control) else type(self.message).__name__

    @property
    def outcome(self) -> Delivery:
        """The delivery of a message that has landed."""
        assert self.delivery is not None, "a message is in flight until its link has delivered it"
        return self.delivery

    @property
    def at_s(self) -> float:
        """When it was delivered or given up, in virtual seconds."""
        return self.outcome.finish_s

    def landed(self, delivery: Delivery, power_w: float) -> Self:
        """The crossing with the delivery of its bytes, and the symbols after them, radiated at `power_w`."""
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


@dataclass(frozen=True)
class EmulatedLink:
    """A link that decides what arrives without seeing a frame; the frames keep their rows."""

    link: Link

    def carry(self, transfer: Transfer, frame: bytes, sent_N: Mask | None = None) -> tuple[Delivery, bytes]:
        """See Carrier."""
        return self.link.transfer(transfer), frame

    def close(self) -> None:
        """See Carrier; there is nothing to close."""


class VirtualClock:
    """The virtual clocks of clients and server; writes crossings and computations to ledger and events.

    `client_flops` and `server_flops` are in FLOP/s; the server
    computes at most `slots` messages concurrently.
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
        """`each_flops` are the clients' rates if they differ."""
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
        """Sends a client's message after its computation.

        Several messages may be in flight at the same time; their costs are recorded by `serve` or
        `lost`, in service order.
        """
        start_s = self._ready_s[envelope.client]
        sent_s = max(start_s + envelope.flops / self._rate(envelope.client), not_before_s)
        transfer = self._transfer("up", envelope, load, sent_s)
        return Crossing(envelope=envelope, message=message, start_s=start_s, load=load, transfer=transfer)

    def depart_down(
        self, envelope: Envelope, message: Message, load: Load, sent_s: float, frame: bytes
    ) -> Crossing:
        """Sends a reply of the server at `sent_s`."""
        transfer = self._transfer("down", envelope, load, sent_s)
        return Crossing(
            envelope=envelope, message=message, start_s=sent_s, load=load, transfer=transfer, frame=frame
        )

    def serve(self, up: Crossing, flops: float) -> float:
        """Records a message and its computation; the time of its reply, monotonic in service order."""
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
        """Records a lost message; its client continues when the link has given up, or at `now_s`."""
        self._arrived(up, is_lost=True)
        self._ready_s[up.envelope.client] = max(up.at_s, now_s)
        self._finished_s = max(self._finished_s, up.at_s)

    def late(self, up: Crossing, due_s: float) -> None:
        """Records a message after its round's end at `due_s`; its client continues once it is sent."""
        self._arrived(up, is_lost=True)
        self._ready_s[up.envelope.client] = up.at_s
        self._finished_s = max(self._finished_s, due_s)

    def aged(self, turn: Turn, staleness: int) -> None:
        """Records the staleness of a client's upload."""
        self._ledger.aged(staleness)
        self._events.write("update", round=turn.round, client=turn.client, staleness=staleness)

    @property
    def round_began_s(self) -> float:
        """The start of the current round, in virtual seconds."""
        return self._round_began_s

    def ready_s(self, client: int) -> float:
        """When this client received its last reply, in virtual seconds."""
        return self._ready_s[client]

    def delivered(self, down: Crossing, *, is_lost: bool) -> None:
        """Records a reply that has reached its client."""
        self._crossed(down, is_lost=is_lost)
        self._ready_s[down.envelope.client] = down.at_s

    def state(self) -> State:
        """All clocks and sequence counters; see Stateful."""
        ready, sequence = sorted(self._ready_s.items()), sorted(self._sequence.items())
        rows = [[client, DIRECTIONS.index(direction), count] for (client, direction), count in sequence]
        return {
            "ready_s": torch.tensor(ready, dtype=torch.float64),
            "slot_free_s": torch.tensor(self._slot_free_s, dtype=torch.float64),
            "round_s": torch.tensor([self._finished_s, self._round_began_s], dtype=torch.float64),
            "sequence": torch.tensor(rows, dtype=torch.int64),
        }

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._ready_s.clear()
        self._ready_s |= {int(client): at_s for client, at_s in tensor_in(state, "ready_s").tolist()}
        self._slot_free_s = tensor_in(state, "slot_free_s").tolist()
        self._finished_s, self._round_began_s = tensor_in(state, "round_s").tolist()
        self._sequence.clear()
        self._sequence |= {
            (client, DIRECTIONS[direction]): count
            for client, direction, count in tensor_in(state, "sequence").tolist()
        }

    def end_round(self) -> float:
        """Ends the round for all clients; its virtual time in seconds."""
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
