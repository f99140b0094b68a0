"""Virtual clock, advanced by the simulation, and wall clock, read from the machine.

Both start at 0 and are monotonic, so code that only reads the time works with either.
Nothing else in the project reads the machine's time.
"""

import time
from typing import Protocol

from channel.core.errors import BadParameter


class Clock(Protocol):
    """Seconds since the clock was created."""

    def now_s(self) -> float: ...


class SimulatedClock:
    """A simulated clock: time changes only through `advance_to`."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def now_s(self) -> float:
        """The time in seconds of the last `advance_to`; 0 before the first."""
        return self._now_s

    def advance_to(self, time_s: float) -> None:
        """Sets the time to `time_s`. Raises BadParameter for a time in the past and for NaN."""
        if not time_s >= self._now_s:
            raise BadParameter(f"time_s must be at least the present {self._now_s}, got {time_s}")
        self._now_s = float(time_s)


class WallClock:
    """The machine's monotonic clock, 0 at the creation of this object."""

    def __init__(self) -> None:
        self._start_s = time.monotonic()

    def now_s(self) -> float:
        """Seconds of real time since the start."""
        return time.monotonic() - self._start_s

    def sleep_until(self, time_s: float) -> float:
        """Sleeps until `time_s` and returns the lateness in seconds, at least 0.

        A lateness that grows from call to call means that the caller cannot keep up with real time.
        Raises BadParameter if `time_s` is NaN.
        """
        if time_s != time_s:
            raise BadParameter(f"time_s must be a number of seconds, got {time_s}")
        while (left_s := time_s - self.now_s()) > 0.0:
            time.sleep(left_s)
        return -left_s
