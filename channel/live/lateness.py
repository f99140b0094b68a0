"""Measures how late packets are released, and warns if the emulator cannot keep up with real time."""

import logging
from dataclasses import dataclass

import numpy as np

log = logging.getLogger(__name__)

LATE_S = 0.005
"""The delay beyond which a packet counts as late; an unloaded machine achieves a granularity of 1 ms."""
_BIN_S, _BINS = 1e-4, 20_000
_WINDOW_S = 1.0
_LATE_SHARE = 0.1
_QUIET_S = 10.0


@dataclass(frozen=True, kw_only=True)
class LatenessFigures:
    """Lateness over all released packets; `bad_seconds` counts seconds in which over a tenth were late."""

    packets: int
    median_s: float
    p99_s: float
    worst_s: float
    late_share: float
    bad_seconds: int


class LatenessMonitor:
    """A histogram of lateness that logs a warning if over a tenth of a second's packets exceed `LATE_S`."""

    def __init__(self) -> None:
        self._count = [0] * (_BINS + 1)
        self._packets = self._late = self._bad_seconds = 0
        self._worst_s = 0.0
        self._window_s, self._window_packets, self._window_late = 0.0, 0, 0
        self._warned_s = -_QUIET_S

    def note(self, due_s: float, now_s: float) -> None:
        """Records a packet that was due at `due_s` and is released at `now_s`."""
        late_s = now_s - due_s
        self._count[min(int(late_s / _BIN_S), _BINS)] += 1
        self._packets += 1
        self._window_packets += 1
        if late_s > LATE_S:
            self._late += 1
            self._window_late += 1
        self._worst_s = max(self._worst_s, late_s)
        if now_s - self._window_s >= _WINDOW_S:
            self._close(now_s)

    def figures(self) -> LatenessFigures:
        """The figures so far; quantiles are rounded up to 0.1 ms."""
        below = np.cumsum(self._count)
        packets = max(self._packets, 1)

        def quantile_s(share: float) -> float:
            found = int(np.searchsorted(below, share * self._packets, side="left")) + 1
            return min(found * _BIN_S, self._worst_s)

        return LatenessFigures(
            packets=self._packets,
            median_s=quantile_s(0.5),
            p99_s=quantile_s(0.99),
            worst_s=self._worst_s,
            late_share=self._late / packets,
            bad_seconds=self._bad_seconds,
        )

    def _close(self, now_s: float) -> None:
        if self._window_late > _LATE_SHARE * self._window_packets:
            self._bad_seconds += 1
            if now_s - self._warned_s >= _QUIET_S:
                self._warned_s = now_s
                log.warning(
                    "the emulator cannot keep up: in the second up to %.1f s, %d of %d packets were released "
                    "more than %g ms late",
                    now_s,
                    self._window_late,
                    self._window_packets,
                    LATE_S * 1e3,
                )
        self._window_s, self._window_packets, self._window_late = now_s, 0, 0
