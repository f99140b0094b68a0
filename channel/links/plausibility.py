"""Plausibility checks of a recorded link's units.

Recordings come from other tools: a `delay_s` of 25 most likely means 25 ms. Implausible values are refused
with the likely unit; plausible ones are accepted and summarised in one line.
"""

from datetime import UTC, datetime

import numpy as np

from channel.core.arrays import Array
from channel.core.errors import BadParameter

_MIN_BPS, _MAX_BPS = 1e3, 1e12
"""A peak rate below 1 kbit/s indicates a larger unit."""

_MEDIAN_DELAY_S, _MAX_DELAY_S = 2.0, 60.0
"""A geostationary satellite takes 0.25 s one way; bufferbloat in mobile networks a few seconds."""

_MAX_LENGTH_S = 7 * 86_400.0
_EPOCH = 1e9
"""Unix time has been above it since 2001."""


def require_plausible(*, time_s: Array, rate_bps: Array, delay_s: Array, loss_rate: Array) -> None:
    """Raises BadParameter for columns whose values are more plausible in another unit."""
    if not np.size(time_s):
        return
    _require_times(time_s)
    most_bps, median_s = float(np.max(rate_bps)), float(np.median(delay_s))
    if 0.0 < most_bps < _MIN_BPS:
        raise BadParameter(
            f"rate_bps must reach {_MIN_BPS:g} bit/s somewhere, got at most {most_bps:g}; "
            f"{most_bps:g} Mbit/s are {most_bps * 1e6:g}"
        )
    if most_bps > _MAX_BPS:
        raise BadParameter(f"rate_bps must be at most {_MAX_BPS:g} bit/s, got {most_bps:g}")
    if median_s > _MEDIAN_DELAY_S or np.max(delay_s) > _MAX_DELAY_S:
        got = median_s if median_s > _MEDIAN_DELAY_S else float(np.max(delay_s))
        raise BadParameter(
            f"delay_s must be at most {_MEDIAN_DELAY_S:g} s in the median and {_MAX_DELAY_S:g} s at all, "
            f"got {got:g}; {got:g} ms are {got / 1e3:g}"
        )
    most_loss = float(np.max(loss_rate))
    if 1.0 < most_loss <= 100.0:
        raise BadParameter(
            f"loss_rate must lie in [0, 1], got {most_loss:g}; {most_loss:g}% are {most_loss / 100.0:g}"
        )


def require_relative_ms(name: str, times_ms: Array) -> None:
    """Raises BadParameter for milliseconds that are not relative to the start of the recording."""
    last_ms = float(times_ms[-1])
    if last_ms > 1e3 * _MAX_LENGTH_S:
        raise BadParameter(
            f"{name} must hold milliseconds from its start, at most {1e3 * _MAX_LENGTH_S:g} (a week), "
            f"got {last_ms:.0f}{_since_1970(last_ms)}"
        )


def _require_times(time_s: Array) -> None:
    first_s, last_s = float(time_s[0]), float(time_s[-1])
    if last_s - first_s > _MAX_LENGTH_S or first_s > 1e2 * _EPOCH:
        raise BadParameter(
            f"time_s must be seconds and end within a week of its start ({_MAX_LENGTH_S:g} s), "
            f"got {first_s:.17g} to {last_s:.17g}{_since_1970(last_s)}"
        )


def _since_1970(moment: float) -> str:
    """A hint if the number is a plausible Unix time in s, ms, us or ns; else empty."""
    for unit, a_second in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)):
        if _EPOCH <= moment / a_second < 4 * _EPOCH:
            when = datetime.fromtimestamp(moment / a_second, tz=UTC)
            return f", which would be {when:%Y-%m-%d} as {unit} since 1970: subtract the first time"
    return ""
