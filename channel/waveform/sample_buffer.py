"""The samples of a stream that are still needed."""

import numpy as np

from channel.waveform.numerology import Samples


class SampleBuffer:
    """Samples by their position in the stream: appended at the end, discarded at the start."""

    def __init__(self) -> None:
        self._samples = np.empty(4096, dtype=np.complex64)
        self._first = 0
        self._count = 0

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
        """All samples, as a view that the next `append` or `discard` invalidates."""
        return self._samples[: self._count]

    def append(self, samples: Samples) -> None:
        """Adds samples at the end."""
        needed = self._count + samples.size
        if needed > self._samples.size:
            grown = np.empty(2 * needed, dtype=np.complex64)
            grown[: self._count] = self.samples
            self._samples = grown
        self._samples[self._count : needed] = samples
        self._count = needed

    def between(self, begin: int, end: int) -> Samples:
        """A view of the samples at these positions, which must be there."""
        assert self._first <= begin <= end <= self.end
        return self._samples[begin - self._first : end - self._first]

    def discard(self, before: int) -> None:
        """Drops the samples before this position."""
        drop = min(max(0, before - self._first), self._count)
        if drop:
            self._samples[: self._count - drop] = self._samples[drop : self._count].copy()
            self._first += drop
            self._count -= drop
