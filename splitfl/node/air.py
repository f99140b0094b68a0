"""Virtual time: when each message would have left, crossed and been answered.

Work takes its FLOPs over the device's declared rate, a message what the link says. The
same messages in the same order give the same times on every transport, so a run over
RPC and one in a single process tell the same story; the wall clock is kept apart.
"""

from collections import defaultdict
from dataclasses import dataclass

from channel.link import Delivery, Link, Transfer
from splitfl.ledger import Ledger
from splitfl.metrics import Events
from splitfl.wire import Envelope


@dataclass(frozen=True, kw_only=True, eq=False)
class Arrival:
    """A message at the server, or its remains: its client's work began at `start_s`, it left at `sent_s`."""

    kind: str
    payload_bytes: int
    start_s: float
    sent_s: float
    delivery: Delivery

    @property
    def at_s(self) -> float:
        """When it was there, or was given up."""
        return self.delivery.finish_s

    @property
    def is_complete(self) -> bool:
        """Whether all of it is there."""
        return self.delivery.is_complete


class Air:
    """The links of all clients and the clocks at their ends.

    `client_flops` and `server_flops` are floating-point operations a second; the server
    works on at most `slots` messages at the same time.
    """

    def __init__(
        self,
        link: Link,
        client_flops: float,
        server_flops: float,
        slots: int,
        ledger: Ledger,
        events: Events,
    ) -> None:
        self._link = link
        self._client_flops = client_flops
        self._server_flops = server_flops
        self._ledger = ledger
        self._events = events
        self._ready_s: dict[int, float] = defaultdict(float)
        self._slot_free_s = [0.0] * slots
        self._finished_s = 0.0
        self._round_began_s = 0.0
        self._sequence: dict[tuple[int, str], int] = defaultdict(int)

    def up(self, envelope: Envelope, kind: str, payload_bytes: int) -> Arrival:
        """A client computes for as long as its FLOPs take, then sends.

        Several messages may be on their way at the same time, so what they cost is counted
        when `serve` or `lost` says, in the order of their turns, what has become of each.
        """
        start_s = self._ready_s[envelope.client]
        sent_s = start_s + envelope.flops / self._client_flops
        return Arrival(
            kind=kind,
            payload_bytes=payload_bytes,
            start_s=start_s,
            sent_s=sent_s,
            delivery=self._cross("up", envelope.client, payload_bytes, sent_s),
        )

    def serve(self, envelope: Envelope, arrival: Arrival, flops: float) -> float:
        """When the server has its answer; answers are ready in the order of their turns."""
        self._came(envelope, arrival)
        slot = min(range(len(self._slot_free_s)), key=self._slot_free_s.__getitem__)
        earliest_s = self._round_began_s if envelope.lap == 0 else arrival.at_s
        start_s = max(arrival.at_s, earliest_s, self._slot_free_s[slot] if flops else 0.0)
        worked_s = start_s + flops / self._server_flops
        if flops:
            self._slot_free_s[slot] = worked_s
            self._compute("server", envelope, flops, start_s, worked_s)
        finish_s = max(worked_s, self._finished_s) if envelope.lap else worked_s
        self._finished_s = max(self._finished_s, finish_s)
        return finish_s

    def down(self, envelope: Envelope, kind: str, payload_bytes: int, at_s: float) -> bool:
        """The answer goes back; false where it is lost on the way."""
        delivery = self._cross("down", envelope.client, payload_bytes, at_s)
        self._crossed("down", envelope, kind, payload_bytes, at_s, delivery)
        self._ready_s[envelope.client] = delivery.finish_s
        return delivery.is_complete

    def lost(self, envelope: Envelope, arrival: Arrival) -> None:
        """Nothing came of a message; its client goes on from when the link gave up."""
        self._came(envelope, arrival)
        self._ready_s[envelope.client] = arrival.at_s
        self._finished_s = max(self._finished_s, arrival.at_s)

    def end_round(self) -> float:
        """The virtual time at which the round is over for everyone."""
        self._round_began_s = self._finished_s
        return self._finished_s

    def _cross(self, direction: str, client: int, payload_bytes: int, at_s: float) -> Delivery:
        sequence = self._sequence[client, direction]
        self._sequence[client, direction] += 1
        return self._link.transfer(
            Transfer(
                client=client,
                direction=direction,
                sequence=sequence,
                payload_bytes=payload_bytes,
                start_s=at_s,
            )
        )

    def _came(self, envelope: Envelope, arrival: Arrival) -> None:
        self._compute("client", envelope, envelope.flops, arrival.start_s, arrival.sent_s)
        self._crossed("up", envelope, arrival.kind, arrival.payload_bytes, arrival.sent_s, arrival.delivery)

    def _crossed(
        self,
        direction: str,
        envelope: Envelope,
        kind: str,
        payload_bytes: int,
        at_s: float,
        delivery: Delivery,
    ) -> None:
        self._ledger.crossed(envelope.round, envelope.client, direction, payload_bytes, delivery)
        self._events.write(
            "transfer",
            round=envelope.round,
            client=envelope.client,
            direction=direction,
            kind=kind,
            payload_bytes=payload_bytes,
            packets=delivery.packets,
            retransmissions=delivery.retransmissions,
            airtime_s=delivery.airtime_s,
            start_s=at_s,
            finish_s=delivery.finish_s,
            lost=not delivery.is_complete,
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
