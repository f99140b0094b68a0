"""Decides the outcome of live packets with any simulated link, packet by packet.

A packet is one transfer whose `sequence` is its number among this client's packets in this direction. It
therefore has the random draws of the simulated transfer of that name, whatever the wall clock.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from channel.core.arrays import whole
from channel.core.link import DIRECTIONS, Link, Transfer
from channel.live.persistent_links import with_persistent_state


@dataclass(frozen=True, kw_only=True, slots=True)
class PacketOutcome:
    """The outcome of a packet: it arrives, or is given up, at `due_s`.

    `resent` counts the retransmissions of the link.
    """

    client: int
    direction: str
    number: int
    due_s: float
    arrived: bool
    resent: int


class Decider(Protocol):
    """Decides packets, which must be offered in order of time."""

    def offer(self, client: int, direction: str, size_bytes: int, now_s: float) -> int | None:
        """The number of this packet in its outcome; None if the queue was full."""
        ...

    def decided(self, until_s: float) -> list[PacketOutcome]:
        """The outcomes decided by `until_s` and not returned before; their `due_s` may lie in the future."""
        ...

    def next_s(self) -> float:
        """The next time at which `decided` may have news without a new packet; infinite if never."""
        ...


class LinkDecider:
    """A link with a FIFO queue per client and direction; every packet is decided when it is offered."""

    def __init__(self, link: Link, clients: int, queue_bytes: int) -> None:
        """Raises BadParameter unless `clients` and `queue_bytes` are at least 1."""
        whole("clients", clients, 1)
        self._lines = {
            (client, direction): _Line(
                with_persistent_state(link, client, direction), client, direction, queue_bytes
            )
            for client in range(clients)
            for direction in DIRECTIONS
        }
        self._outcomes: list[PacketOutcome] = []

    def offer(self, client: int, direction: str, size_bytes: int, now_s: float) -> int | None:
        outcome = self._lines[client, direction].decide(size_bytes, now_s)
        if outcome is None:
            return None
        self._outcomes.append(outcome)
        return outcome.number

    def decided(self, until_s: float) -> list[PacketOutcome]:
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def next_s(self) -> float:
        return math.inf


class _Line:
    """The FIFO queue of one client in one direction, of at most `queue_bytes`."""

    def __init__(self, link: Link, client: int, direction: str, queue_bytes: int) -> None:
        self._link, self._client, self._direction = link, client, direction
        self._room_bytes = whole("queue_bytes", queue_bytes, 1)
        self._free_s = 0.0
        self._number = 0
        self._waiting: deque[tuple[float, int]] = deque()

    def decide(self, size_bytes: int, now_s: float) -> PacketOutcome | None:
        while self._waiting and self._waiting[0][0] <= now_s:
            self._room_bytes += self._waiting.popleft()[1]
        if size_bytes > self._room_bytes:
            return None
        start_s = max(now_s, self._free_s)
        number, self._number = self._number, self._number + 1
        delivery = self._link.transfer(
            Transfer(
                client=self._client,
                direction=self._direction,
                sequence=number,
                payload_bytes=size_bytes,
                start_s=start_s,
            )
        )
        self._free_s = start_s + delivery.airtime_s
        self._room_bytes -= size_bytes
        self._waiting.append((self._free_s, size_bytes))
        return PacketOutcome(
            client=self._client,
            direction=self._direction,
            number=number,
            due_s=delivery.finish_s,
            arrived=delivery.is_complete,
            resent=delivery.retransmissions,
        )
