"""What waits to be sent: bits per user, those that come later, and which bits of its stream a block carried.

Axes: Q queues, one for each user and direction, and behind them one that is always empty.
"""

from bisect import bisect_right
from collections import deque
from heapq import heappop, heappush

import numpy as np

Range = tuple[float, float]
"""Bits of a queue's stream: from the first one up to, without, the second."""


class Backlog:
    """First in, first out for each queue; what has to be sent again goes before what was never sent.

    A block knows the place in the order of sending at which it begins. That is the place in the stream as
    long as nothing was sent again; `ranges` translates where something was.
    """

    def __init__(self, queues: int, *, memory_grants: int) -> None:
        """Empty queues; `memory_grants` after it was sent nobody asks any more what a block carried."""
        self._memory_grants = memory_grants
        self.left_Q = np.zeros(queues + 1)
        self.sent_Q = np.zeros(queues + 1)
        self._later: list[tuple[int, int, int, float, Range | None]] = []
        self._number = 0
        self._places: dict[int, tuple[list[float], list[float]]] = {}
        self._changes: dict[int, deque[tuple[int, float]]] = {}

    def add(self, grant: int, queue: int, bits: float, again: Range | None = None) -> None:
        """So many bits are ready from `grant` on: the next of the stream, or a part of it that was lost."""
        heappush(self._later, (grant, self._number, queue, bits, again))
        self._number += 1

    def ready(self, grant: int) -> None:
        """Lets in what is ready at `grant`."""
        while self._later and self._later[0][0] <= grant:
            _, _, queue, bits, again = heappop(self._later)
            self.left_Q[queue] += bits
            if again is not None:
                self._insert(queue, again)
                self._prune(queue, grant)

    @property
    def next_grant(self) -> int | None:
        """When the next bits get ready; None where no more are on their way."""
        return self._later[0][0] if self._later else None

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits, neither now nor later."""
        return not self._later and not self.left_Q.any()

    def ranges(self, queue: int, place: float, bits: float) -> list[Range]:
        """The parts of the stream that a block of `bits` bits carried which began at `place`."""
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
        """Nothing of this queue is under way: places and stream may be the same again."""
        places = self._places.pop(queue, None)
        self._changes.pop(queue, None)
        if places is not None:
            self.sent_Q[queue] += places[1][-1] - places[0][-1]

    def _insert(self, queue: int, again: Range) -> None:
        """From the place that is sent next on comes `again`, and only then what would have come."""
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
        """Drops places from before changes so long ago that nothing is under way from then."""
        changes = self._changes.setdefault(queue, deque())
        changes.append((grant, float(self.sent_Q[queue])))
        while changes[0][0] < grant - self._memory_grants:
            _, place = changes.popleft()
            places, origins = self._places[queue]
            row = bisect_right(places, place) - 1
            self._places[queue] = (places[row:], origins[row:])
