"""Samples at their own rate on the wall clock, without ever catching up."""

from dataclasses import dataclass

from channel.core.clock import Clock

TOLERANCE_S = 0.005
"""Up to this, lateness is the granularity of timers and is made up for; more moves all later times."""

REAL_TIME_SHARE = 0.05
"""A stream that slipped for more than this share of its time was not in real time."""


@dataclass(frozen=True, kw_only=True)
class Slips:
    """By how many wall seconds the stream slipped, in how many blocks, and the most at once."""

    slipped_s: float = 0.0
    late_blocks: int = 0
    worst_late_s: float = 0.0


class AirPace:
    """Says when samples are due: at `rate_hz` from the first on, or at once if it is not `is_real`.

    If samples are late by more than `TOLERANCE_S`, the times of all that follow move by that lateness.
    """

    def __init__(self, clock: Clock, *, rate_hz: float, is_real: bool) -> None:
        self._clock, self._rate_hz, self._is_real = clock, rate_hz, is_real
        self._origin_s: float | None = None
        self.slips = Slips()

    def wait_s(self, begin: int, end: int) -> float:
        """Seconds until samples [begin, end) are due, 0 if they are."""
        if not self._is_real:
            return 0.0
        if self._origin_s is None:
            self._origin_s = self._clock.now_s() - begin / self._rate_hz
        return max(self._origin_s + end / self._rate_hz - self._clock.now_s(), 0.0)

    def release(self, end: int) -> None:
        """Notes that the samples up to `end` are released now."""
        if not self._is_real or self._origin_s is None:
            return
        late_s = self._clock.now_s() - self._origin_s - end / self._rate_hz
        if late_s > TOLERANCE_S:
            self._origin_s += late_s
            self.slips = Slips(
                slipped_s=self.slips.slipped_s + late_s,
                late_blocks=self.slips.late_blocks + 1,
                worst_late_s=max(self.slips.worst_late_s, late_s),
            )

    def pause(self) -> None:
        """Stops the clock until the next call of `wait_s`; a pause is no slip."""
        self._origin_s = None
