"""Transmit queues in bits, future arrivals, and the mapping from blocks to bits of a queue's stream.

Axes: Q queues, one per user and direction, and a last one that is always empty.
"""

from bisect import bisect_right
from collections import deque
from heapq import heappop, heappush

import numpy as np

Range = tuple[float, float]
"""A half-open range of bits of a queue's stream."""


class Backlog:
    """FIFO queues in which retransmissions precede new data.

    A block stores its position in the order of transmission. Without retransmissions that is its position in
    the stream; `ranges` translates otherwise.
    """

    def __init__(self, queues: int, *, memory_grants: int) -> None:
        """Empty queues; positions can be translated until `memory_grants` after transmission."""
        self._memory_grants = memory_grants
        self.left_Q = np.zeros(queues + 1)
        self.sent_Q = np.zeros(queues + 1)
        self._later: list[tuple[int, int, int, float, Range | None]] = []
        self._number = 0
        self._places: dict[int, tuple[list[float], list[float]]] = {}
        self._changes: dict[int, deque[tuple[int, float]]] = {}

    def add(self, grant: int, queue: int, bits: float, again: Range | None = None) -> None:
        """Queues bits from `grant` on: the next of the stream, or the lost part `again` of it."""
        heappush(self._later, (grant, self._number, queue, bits, again))
        self._number += 1

    def ready(self, grant: int) -> None:
        """Moves arrivals up to `grant` into the queues."""
        while self._later and self._later[0][0] <= grant:
            _, _, queue, bits, again = heappop(self._later)
            self.left_Q[queue] += bits
            if again is not None:
                self._insert(queue, again)
                self._prune(queue, grant)

    @property
    def next_grant(self) -> int | None:
        """The grant of the next arrival; None without any."""
        return self._later[0][0] if self._later else None

    @property
    def is_empty(self) -> bool:
        """Whether there are neither queued bits nor future arrivals."""
        return not self._later and not self.left_Q.any()

    def ranges(self, queue: int, place: float, bits: float) -> list[Range]:
        """The parts of the stream in a block of `bits` bits whose transmission position is `place`."""
        if queue not in self._places:
            return [(place, place + bits)]
        places, origins = self._places[queue]
        found, row = [], bisect_right(places, place) - 1
        end = place + bits
        while place < end:
            stop = min(end, places[row + 1] if row + 1 < len(places) else end)
            begin = origins[row] + place - places[row]
            found.append((begin, begin + stop - place))
            place, row = stop, row + 1
        return found

    def forget(self, queue: int) -> None:
        """Resets the translation of a queue without blocks in flight."""
        places = self._places.pop(queue, None)
        self._changes.pop(queue, None)
        if places is not None:
            self.sent_Q[queue] += places[1][-1] - places[0][-1]

    def _insert(self, queue: int, again: Range) -> None:
        """Inserts `again` at the next transmission position, before the remaining stream."""
        here, length = float(self.sent_Q[queue]), again[1] - again[0]
        places, origins = self._places.get(queue, ([0.0], [0.0]))
        row = bisect_right(places, here) - 1
        old = range(row + 1, len(places))
        keep = row if places[row] == here else row + 1
        self._places[queue] = (
            [*places[:keep], here, here + length, *(places[at] + length for at in old)],
            [*origins[:keep], again[0], origins[row] + here - places[row], *(origins[at] for at in old)],
        )

    def _prune(self, queue: int, grant: int) -> None:
        """Drops translations that are too old for any block in flight."""
        changes = self._changes.setdefault(queue, deque())
        changes.append((grant, float(self.sent_Q[queue])))
        while changes[0][0] < grant - self._memory_grants:
            _, place = changes.popleft()
            places, origins = self._places[queue]
            row = bisect_right(places, place) - 1
            self._places[queue] = (places[row:], origins[row:])
