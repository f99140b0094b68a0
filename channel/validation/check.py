"""A check: what is expected, how it is measured, how far apart both may be, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from channel.core.errors import ChannelError
from channel.core.rng import stream


class NotRunHere(ChannelError):
    """A check needs something that this machine or installation lacks; the message says what."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """`row` of the design's conformance table; `tolerance` is absolute, in the unit of what is measured.

    `measure` may raise NotRunHere. What `is_quick` takes less than a second or so; the rest takes minutes.
    """

    row: str
    what: str
    expected: float
    tolerance: float
    measure: Callable[[], float]
    is_quick: bool = True


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check found; `measured` is nan where it did not run, for the reason `missing`."""

    row: str
    what: str
    expected: float
    measured: float
    tolerance: float
    missing: str = ""

    @property
    def is_good(self) -> bool:
        """Whether it ran and found a value within the tolerance."""
        return not self.missing and abs(self.measured - self.expected) <= self.tolerance

    @property
    def is_bad(self) -> bool:
        """Whether it ran and did not."""
        return not self.missing and not self.is_good

    @property
    def word(self) -> str:
        """pass, FAIL, or why there is neither."""
        return f"not run here: {self.missing}" if self.missing else "pass" if self.is_good else "FAIL"


def verdict(check: Check) -> Verdict:
    """Measures."""
    measured, missing = float("nan"), ""
    try:
        measured = float(check.measure())
    except NotRunHere as reason:
        missing = str(reason)
    return Verdict(
        row=check.row,
        what=check.what,
        expected=check.expected,
        measured=measured,
        tolerance=check.tolerance,
        missing=missing,
    )


def within_percent(
    row: str,
    what: str,
    expected: float,
    percent: float,
    measure: Callable[[], float],
    *,
    is_quick: bool = True,
) -> Check:
    """A check whose tolerance is a share of what is expected."""
    return Check(
        row=row,
        what=what,
        expected=expected,
        tolerance=abs(expected) * percent / 100.0,
        measure=measure,
        is_quick=is_quick,
    )


def rng_of(*names: str | int) -> np.random.Generator:
    """A stream for a check's draws: seeds are fixed, so that a verdict never changes between runs."""
    return stream(0, "conformance", *names)
