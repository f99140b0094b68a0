"""Bursts that wait for their time, with silence between them.

Axes: B samples of a burst.
"""

from collections import deque

import numpy as np

from channel.iq.delay_filters import Samples
from testbed.errors import LateBurst


class BurstQueue:
    """The samples that a radio sends, as a stream from sample 0 on."""

    def __init__(self) -> None:
        self._bursts: deque[tuple[int, Samples]] = deque()
        self.now = 0

    @property
    def end(self) -> int:
        """The first sample after all bursts, at least the present."""
        if not self._bursts:
            return self.now
        begin, burst_B = self._bursts[-1]
        return max(begin + burst_B.size, self.now)

    def put(self, burst_B: Samples, at: int | None) -> int:
        """Queues a burst behind the others; see Radio.send."""
        begin = self.end if at is None else at
        if begin < self.now:
            raise LateBurst(f"a burst for sample {begin} came at sample {self.now}: too late")
        if begin < self.end:
            raise LateBurst(f"a burst for sample {begin} overlaps one that ends at sample {self.end}")
        if burst_B.size:
            self._bursts.append((begin, np.asarray(burst_B, dtype=np.complex64).copy()))
        return begin

    def take(self, count: int) -> Samples:
        """The next `count` samples."""
        taken = np.zeros(count, dtype=np.complex64)
        stop = self.now + count
        while self._bursts and self._bursts[0][0] < stop:
            begin, burst_B = self._bursts.popleft()
            fits = min(stop - begin, burst_B.size)
            taken[begin - self.now : begin - self.now + fits] = burst_B[:fits]
            if fits < burst_B.size:
                self._bursts.appendleft((stop, burst_B[fits:]))
        self.now = stop
        return taken
