"""Finds the short symbols of a preamble in a stream: Schmidl & Cox, IEEE Trans. Commun. 45(12), 1997."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from channel.coding.compiled import compiled
from channel.waveform.numerology import Samples
from channel.waveform.preamble import SHORT_SYMBOLS, Preamble

THRESHOLD = 0.3
"""Of the normalised autocorrelation, whose mean is snr / (1 + snr): 0.3 corresponds to -3.7 dB. With a window
of 224 samples, noise alone exceeds it at about one sample in 10^8."""


class Peak(NamedTuple):
    """Where the autocorrelation is largest: ideally the last sample of the short symbols."""

    position: int
    offset: float
    """The carrier frequency offset in radians per sample, within one subcarrier spacing."""


class Detector:
    """Correlates each sample with the one a short symbol earlier, over a window of seven short symbols.

    The peak is the largest value above the threshold that no later one exceeds for two short symbols.
    Looks at every sample once, one at a time: the result does not depend on how the stream is cut.
    """

    def __init__(self, preamble: Preamble) -> None:
        self._lag = preamble.short
        self._window = (SHORT_SYMBOLS - 1) * preamble.short
        self._next = self._begin = self._lag
        self._pair_W = np.zeros((2, self._window), dtype=np.complex128)
        self._later_W = np.zeros((2, self._window + 1), dtype=np.complex128)
        self._sum = np.zeros(2, dtype=np.complex128)
        self._best = np.zeros(2)
        self._best_pair = np.zeros(1, dtype=np.complex128)

    @property
    def oldest(self) -> int:
        """The position of the oldest sample that `search` will still look at."""
        return self._next - self._lag

    def restart(self, position: int) -> None:
        """Forgets all earlier samples: only preambles that begin at `position` or later are found."""
        self._next = self._begin = position + self._lag
        for state in (self._later_W, self._sum, self._best, self._best_pair):
            state[...] = 0.0

    def search(self, samples: Samples, position: int) -> Peak | None:
        """The first peak among samples not looked at before; `position` is that of samples[0]."""
        self._next, is_found = _search(
            samples,
            position,
            self._next,
            self._begin,
            self._lag,
            self._pair_W,
            self._later_W,
            self._sum,
            self._best,
            self._best_pair,
        )
        if not is_found:
            return None
        offset = float(np.angle(self._best_pair[0])) / self._lag
        return Peak(int(self._best[1]), offset)


@compiled
def _search(
    samples: Samples,
    position: int,
    begin: int,
    origin: int,
    lag: int,
    pair_W: NDArray[np.complex128],
    later_W: NDArray[np.complex128],
    total: NDArray[np.complex128],
    best: NDArray[np.float64],
    best_pair: NDArray[np.complex128],
) -> tuple[int, bool]:
    """Continues the search at position `begin`; returns the position of the next sample and whether to stop.

    Rows of `pair_W`: correlation and energy of each sample with its predecessor, in blocks of W. The sum over
    a window is that over the end of the block before, in `later_W`, plus the running sum of this block: it is
    never subtracted from, so a strong packet leaves no rounding error behind. `best` is metric and position.
    """
    window = pair_W.shape[1]
    for at in range(begin, position + samples.size):
        now, before = np.complex128(samples[at - position]), np.complex128(samples[at - position - lag])
        index = (at - origin) % window
        correlation = now * np.conj(before)
        energy = 0.5 * (now.real**2 + now.imag**2 + before.real**2 + before.imag**2)
        pair_W[0, index], pair_W[1, index] = correlation, energy
        total[0] += correlation
        total[1] += energy
        correlation = total[0] + later_W[0, index + 1]
        energy = total[1].real + later_W[1, index + 1].real
        if index == window - 1:
            for row in range(2):
                for turn in range(window - 1, -1, -1):
                    later_W[row, turn] = later_W[row, turn + 1] + pair_W[row, turn]
                total[row] = 0.0
        if at - origin < window - 1 or energy <= 0.0:
            continue
        metric = (correlation.real**2 + correlation.imag**2) / energy**2
        if metric > best[0] and metric > THRESHOLD**2:
            best[0], best[1] = metric, at
            best_pair[0] = correlation
        elif best[0] > 0.0 and at - best[1] >= 2 * lag:
            return at + 1, True
    return max(begin, position + samples.size), False
