"""Live packets over a cell: each packet is one transfer of an engine that is advanced in real time."""

import math

from channel.cell.engine import Engine
from channel.core.arrays import whole
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS, Transfer
from channel.live.decider import PacketOutcome

STEP_S = 1e-3
"""The polling interval of the engine while packets are in flight: the granularity of the emulation."""


class CellDecider:
    """A queue of at most `queue_bytes` per user and direction; packets in flight count as queued.

    A grant is decided after its end, so a packet is released up to one step after its slot.
    """

    def __init__(self, engine: Engine, clients: int, queue_bytes: int) -> None:
        """Client 0 is the cell's first user and so on.

        Raises BadParameter for more clients than users, and for a client that is out of coverage.
        """
        if clients > engine.users:
            raise BadParameter(f"clients must be at most the cell's {engine.users} users, got {clients}")
        engine.require_coverage(range(clients))
        self._engine = engine
        lines = [(client, direction) for client in range(clients) for direction in DIRECTIONS]
        self._room_bytes = dict.fromkeys(lines, whole("queue_bytes", queue_bytes, 1))
        self._number = dict.fromkeys(lines, 0)

    def offer(self, client: int, direction: str, size_bytes: int, now_s: float) -> int | None:
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

    def decided(self, until_s: float) -> list[PacketOutcome]:
        outcomes = []
        for transfer, delivery in self._engine.advance(until_s):
            self._room_bytes[transfer.client, transfer.direction] += transfer.payload_bytes
            outcomes.append(
                PacketOutcome(
                    client=transfer.client,
                    direction=transfer.direction,
                    number=transfer.sequence,
                    due_s=delivery.finish_s,
                    arrived=delivery.is_complete,
                    resent=delivery.retransmissions,
                )
            )
        return outcomes

    def next_s(self) -> float:
        return math.inf if self._engine.is_idle else self._engine.now_s + STEP_S
