"""Samples in the order of their arrival."""

from collections import deque

import numpy as np

from channel.iq.delay_filters import Samples


class SampleFifo:
    """A queue of samples that are put in and taken out in pieces of any size."""

    def __init__(self) -> None:
        self._pieces: deque[Samples] = deque()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, samples: Samples) -> None:
        """Appends samples (count,), which must not be written to afterwards."""
        if samples.size:
            self._pieces.append(samples)
            self._count += samples.size

    def take(self, count: int) -> Samples:
        """Removes the first samples; there must be as many."""
        assert count <= self._count
        taken, left = [], count
        while left:
            piece = self._pieces.popleft()
            if piece.size > left:
                self._pieces.appendleft(piece[left:])
                piece = piece[:left]
            taken.append(piece)
            left -= piece.size
        self._count -= count
        return taken[0] if len(taken) == 1 else np.concatenate([np.empty(0, dtype=np.complex64), *taken])

    def clear(self) -> int:
        """Removes all samples and returns how many they were."""
        count, self._count = self._count, 0
        self._pieces.clear()
        return count
