"""Offsets between the clocks of machines, measured by timed requests as NTP does (RFC 5905, section 8)."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_SAMPLES = 5


@dataclass(frozen=True, kw_only=True)
class ClockOffset:
    """How far a node's clock is ahead of this machine's, in seconds, when this one showed `at_s`.

    The true offset lies within `within_s` of `ahead_s`: half a round trip, whatever its two ways took.
    """

    at_s: float
    ahead_s: float
    within_s: float


def measure(ask: Callable[[], float], now: Callable[[], float] = time.time) -> ClockOffset:
    """The offset from the fastest of several requests; `ask` returns the node's Unix time in seconds."""
    samples = []
    for _ in range(_SAMPLES):
        before_s = now()
        there_s = ask()
        after_s = now()
        middle_s = (before_s + after_s) / 2
        samples.append(
            ClockOffset(at_s=middle_s, ahead_s=there_s - middle_s, within_s=(after_s - before_s) / 2)
        )
    return min(samples, key=lambda sample: sample.within_s)


class NodeClock:
    """A node's clock, from offsets measured during a run."""

    def __init__(self, offsets: Sequence[ClockOffset]) -> None:
        """Raises ValueError without offsets."""
        if not offsets:
            raise ValueError("a clock needs a measured offset")
        self._offsets = sorted(offsets, key=lambda one: one.at_s)

    def here(self, there_s: float) -> tuple[float, float]:
        """This machine's time when the node's clock showed `there_s`, and its uncertainty, in seconds.

        The offset is linear between two measurements, as that of a clock with a constant drift; before the
        first and after the last it is that of the nearest.
        """
        before = [one for one in self._offsets if one.at_s + one.ahead_s <= there_s][-1:]
        after = [one for one in self._offsets if one.at_s + one.ahead_s > there_s][:1]
        ends = before + after
        if len(ends) == 1:
            return there_s - ends[0].ahead_s, ends[0].within_s
        first, second = ends
        first_s, second_s = (one.at_s + one.ahead_s for one in ends)
        share = (there_s - first_s) / (second_s - first_s)
        ahead_s = first.ahead_s + share * (second.ahead_s - first.ahead_s)
        return there_s - ahead_s, max(first.within_s, second.within_s)
