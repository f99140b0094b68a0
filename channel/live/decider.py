"""Who decides about live packets: any link of the virtual clock, asked packet by packet.

A packet is one transfer, `sequence` its number among this client's packets in this direction. So its chances
are the very ones that a virtual transfer of this name would meet, and do not depend on the wall clock.
"""

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

from channel.core.arrays import whole
from channel.core.link import DIRECTIONS, Link, Transfer
from channel.live.running import running


@dataclass(frozen=True, kw_only=True, slots=True)
class Fate:
    """What becomes of a packet: at `due_s` it is there, or given up where it did not arrive.

    `resent` counts the link's own tries beyond the first.
    """

    client: int
    direction: str
    number: int
    due_s: float
    arrived: bool
    resent: int


class Decider(Protocol):
    """Decides about packets in the order of their times, none of which goes back."""

    def offer(self, client: int, direction: str, size_bytes: int, now_s: float) -> int | None:
        """The number by which this packet's fate will name it; None where the queue was full."""
        ...

    def decided(self, until_s: float) -> list[Fate]:
        """The fates that are known by then and were not told yet; they may lie in the future."""
        ...

    def next_s(self) -> float:
        """When something may be decided that nobody has offered; infinite where nothing will be."""
        ...


class LinkDecider:
    """A queue for every client and direction in front of a link, and the link's answer to each packet."""

    def __init__(self, link: Link, clients: int, queue_bytes: int) -> None:
        """Raises BadParameter unless there is at least a client and a byte of room."""
        whole("clients", clients, 1)
        self._lines = {
            (client, direction): _Line(running(link, client, direction), client, direction, queue_bytes)
            for client in range(clients)
            for direction in DIRECTIONS
        }
        self._fates: list[Fate] = []

    def offer(self, client: int, direction: str, size_bytes: int, now_s: float) -> int | None:
        """See Decider; a link decides at once."""
        fate = self._lines[client, direction].decide(size_bytes, now_s)
        if fate is None:
            return None
        self._fates.append(fate)
        return fate.number

    def decided(self, until_s: float) -> list[Fate]:
        """See Decider."""
        fates, self._fates = self._fates, []
        return fates

    def next_s(self) -> float:
        """Everything is decided when it is offered."""
        return math.inf


class _Line:
    """One client's packets in one direction: first come, first sent, and no room beyond `queue_bytes`."""

    def __init__(self, link: Link, client: int, direction: str, queue_bytes: int) -> None:
        self._link, self._client, self._direction = link, client, direction
        self._room_bytes = whole("queue_bytes", queue_bytes, 1)
        self._free_s = 0.0
        self._number = 0
        self._waiting: deque[tuple[float, int]] = deque()

    def decide(self, size_bytes: int, now_s: float) -> Fate | None:
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
        return Fate(
            client=self._client,
            direction=self._direction,
            number=number,
            due_s=delivery.finish_s,
            arrived=delivery.is_complete,
            resent=delivery.retransmissions,
        )
