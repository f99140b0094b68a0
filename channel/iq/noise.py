"""White Gaussian samples that are a function of their sample number.

Axes: N receivers; B samples of a call.
"""

from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np

from channel.core.rng import stream
from channel.iq.delay_filters import Samples

GRAIN = 1024
"""Samples that are drawn together; each grain has its own counters of the generator."""


class WhiteNoise:
    """Circular complex Gaussian samples of mean power 1, float32, for one seed and name.

    The generator is counter-based (Philox, Salmon et al., SC'11): its key is that of the name, and the high
    words of its counter are the grain's number, so that any samples may be drawn in any order.
    """

    def __init__(self, seed: int, *names: str | int) -> None:
        source = stream(seed, *names).bit_generator
        assert isinstance(source, np.random.Philox)
        self._source, self._generator = source, np.random.Generator(source)
        self._fresh = source.state

    def samples(self, start: int, count: int) -> Samples:
        """The samples with numbers start to start + count, not to be written to."""
        first, last = start // GRAIN, (start + count - 1) // GRAIN
        grains = [self._grain(grain) for grain in range(first, last + 1)]
        joined = grains[0] if len(grains) == 1 else np.concatenate(grains)
        return joined[start - first * GRAIN : start - first * GRAIN + count]

    @cached_property
    def _grain(self) -> Callable[[int], Samples]:
        # A call may end within a grain, and the next one begin there.
        return lru_cache(maxsize=2)(self._drawn)

    def _drawn(self, grain: int) -> Samples:
        self._fresh["state"]["counter"][:] = (0, 0, grain, 0)
        self._source.state = self._fresh
        parts = self._generator.standard_normal(2 * GRAIN, dtype=np.float32)
        parts *= np.float32(np.sqrt(0.5))
        return parts.view(np.complex64)
