"""The samples of a stream that are still needed."""

import numpy as np

from channel.waveform.numerology import Samples


class SampleBuffer:
    """Samples by their position in the stream: appended at the end, discarded at the start."""

    def __init__(self) -> None:
        self._samples = np.empty(4096, dtype=np.complex64)
        self._begin = self._count = 0
        self._first = 0

    @property
    def first(self) -> int:
        """The position of the oldest sample."""
        return self._first

    @property
    def end(self) -> int:
        """The position after the newest sample."""
        return self._first + self._count

    @property
    def samples(self) -> Samples:
        """All samples, as a view that the next `append` invalidates."""
        return self._samples[self._begin : self._begin + self._count]

    def append(self, samples: Samples) -> None:
        """Adds samples at the end; without room there, those that are kept move to the start."""
        needed = self._count + samples.size
        if self._begin + needed > self._samples.size:
            # A copy, for old and new place may overlap. Twice the room, so that most calls move nothing.
            kept = self.samples.copy()
            if 2 * needed > self._samples.size:
                self._samples = np.empty(2 * needed, dtype=np.complex64)
            self._samples[: kept.size] = kept
            self._begin = 0
        end = self._begin + self._count
        self._samples[end : end + samples.size] = samples
        self._count = needed

    def between(self, begin: int, end: int) -> Samples:
        """A view of the samples at these positions, which must be there."""
        assert self._first <= begin <= end <= self.end
        at = self._begin - self._first
        return self._samples[at + begin : at + end]

    def discard(self, before: int) -> None:
        """Drops the samples before this position."""
        drop = min(max(0, before - self._first), self._count)
        self._begin += drop
        self._first += drop
        self._count -= drop
