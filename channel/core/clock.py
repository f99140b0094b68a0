"""What time it is: told, on the virtual clock; measured, on the wall clock.

Both start at 0 and both only go forward, so whoever is handed one cannot tell which
it is until it waits. Nothing else in the project asks the machine for the time.
"""

import time
from typing import Protocol

from channel.core.errors import BadParameter


class Clock(Protocol):
    """Something that knows how many seconds have passed since it was made."""

    def now_s(self) -> float: ...


class VirtualClock:
    """A clock that stands still until it is told the time."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """The time that it was last told."""
        return self._now_s

    def advance_to(self, time_s: float) -> None:
        """Makes it `time_s`. Raises BadParameter for a moment that has passed or is not a number."""
        if not time_s >= self._now_s:
            raise BadParameter(f"time_s must be at least the present {self._now_s}, got {time_s}")
        self._now_s = float(time_s)


class WallClock:
    """The machine's monotonic clock, read from the moment at which this object was made."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    def now_s(self) -> float:
        """Seconds of real time since the start."""
        return time.monotonic() - self._start_s

    def sleep_until(self, time_s: float) -> float:
        """Returns not before `time_s`, and says by how many seconds it is late.

        A caller that finds this number growing cannot keep up with real time, and says so.
        Raises BadParameter where `time_s` is not a number.
        """
        if time_s != time_s:
            raise BadParameter(f"time_s must be a number of seconds, got {time_s}")
        while (left_s := time_s - self.now_s()) > 0.0:
            time.sleep(left_s)
        return -left_s
