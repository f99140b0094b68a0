"""The cell decides about live packets: each is a message to its engine, which runs along in real time."""

import math

from channel.cell.engine import Engine
from channel.core.arrays import whole
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS, Transfer
from channel.live.decider import Fate

STEP_S = 1e-3
"""How often the engine is asked while something is on its way: the granularity that is promised."""


class CellDecider:
    """A queue of at most `queue_bytes` for each user and direction; what is in flight counts as queued.

    A grant is decided once it is over, so a packet is let go up to a step after its slot.
    """

    def __init__(self, engine: Engine, clients: int, queue_bytes: int) -> None:
        """Client 0 is the cell's first user and so on.

        Raises BadParameter for more clients than users, and for a client that is out of reach.
        """
        if clients > engine.users:
            raise BadParameter(f"clients must be at most the cell's {engine.users} users, got {clients}")
        engine.demand_reach(range(clients))
        self._engine = engine
        lines = [(client, way) for client in range(clients) for way in DIRECTIONS]
        self._room_bytes = dict.fromkeys(lines, whole("queue_bytes", queue_bytes, 1))
        self._number = dict.fromkeys(lines, 0)

    def offer(self, client: int, direction: str, size_bytes: int, now_s: float) -> int | None:
        """See Decider."""
        line = client, direction
        if size_bytes > self._room_bytes[line]:
            return None
        number = self._number[line]
        self._number[line] += 1
        self._room_bytes[line] -= size_bytes
        self._engine.submit(
            Transfer(
                client=client,
                direction=direction,
                sequence=number,
                payload_bytes=size_bytes,
                start_s=now_s,
            )
        )
        return number

    def decided(self, until_s: float) -> list[Fate]:
        """See Decider."""
        fates = []
        for transfer, delivery in self._engine.advance(until_s):
            self._room_bytes[transfer.client, transfer.direction] += transfer.payload_bytes
            fates.append(
                Fate(
                    client=transfer.client,
                    direction=transfer.direction,
                    number=transfer.sequence,
                    due_s=delivery.finish_s,
                    arrived=delivery.is_complete,
                    resent=delivery.retransmissions,
                )
            )
        return fates

    def next_s(self) -> float:
        """See Decider."""
        return math.inf if self._engine.is_idle else self._engine.now_s + STEP_S
