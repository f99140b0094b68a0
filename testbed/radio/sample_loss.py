"""Which number a received sample has, and how many were lost.

Times are those of the device where it has a clock, otherwise of the wall clock.
"""

import math
from collections import deque

from channel.core.clock import Clock
from testbed.errors import SamplesLost

MOST_LOST = 0.01
"""Of the time; a link with more is refused."""
_WINDOW_S = 10.0
_JITTER = 2
_KEPT_UP = 0.8
_NS = 1e9


class SampleNumbers:
    """Numbers the samples of a device of `rate_hz` from 0 on."""

    def __init__(self, rate_hz: float, clock: Clock) -> None:
        self._rate_hz, self._clock = rate_hz, clock
        self._origin_ns: float | None = None
        self._origin_s = math.inf

    def first(self, expected: int, count: int, time_ns: int | None, *, is_after_loss: bool) -> int:
        """The number of the first of `count` samples that arrive now, at least `expected`.

        Without a time of the device, what was lost is estimated from the wall clock.
        """
        if time_ns is not None:
            return self._by_device(expected, time_ns)
        now_s = self._clock.now_s()
        number = expected
        if is_after_loss and self._origin_s < math.inf:
            number = max(expected, round((now_s - self._origin_s) * self._rate_hz) - count)
        self._origin_s = min(self._origin_s, now_s - (number + count) / self._rate_hz)
        return number

    def time_ns(self, number: int) -> int | None:
        """The device's time of a sample; None before the first one with a time."""
        return None if self._origin_ns is None else round(self._origin_ns + number * _NS / self._rate_hz)

    def _by_device(self, expected: int, time_ns: int) -> int:
        if self._origin_ns is None:
            self._origin_ns = time_ns - expected * _NS / self._rate_hz
        number = round((time_ns - self._origin_ns) * self._rate_hz / _NS)
        if number - expected > _JITTER:
            return number
        # The rate that was read back is rounded: the difference must not add up to a loss.
        self._origin_ns = time_ns - expected * _NS / self._rate_hz
        return expected


class LossLimit:
    """Raises SamplesLost once more than 1 % of the last 10 s are lost."""

    def __init__(self, device: str, rate_hz: float) -> None:
        self._device, self._rate_hz = device, rate_hz
        self._losses: deque[tuple[int, int]] = deque()

    def lost(self, count: int, now: int) -> None:
        """Counts a loss that ends at sample `now`."""
        self._losses.append((now, count))
        window = _WINDOW_S * self._rate_hz
        while self._losses[0][0] < now - window:
            self._losses.popleft()
        lost = sum(one for _, one in self._losses)
        if lost > MOST_LOST * window:
            share = lost / min(max(now, lost), window)
            seconds = min(now, window) / self._rate_hz
            raise SamplesLost(
                f"{self._device} lost {100.0 * share:.1f} % of the samples of {seconds:.1f} s "
                f"at rate_hz = {self._rate_hz:g}: try rate_hz = {slower(self._rate_hz, share):g}"
            )


def slower(rate_hz: float, lost_share: float) -> float:
    """The largest whole fraction of a rate that is well below what was received of it."""
    received_hz = _KEPT_UP * rate_hz * (1.0 - min(lost_share, 0.99))
    divisor = 2
    while rate_hz / divisor > received_hz:
        divisor += 1
    return rate_hz / divisor
