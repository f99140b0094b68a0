"""A check: expected value, measurement, tolerance, and verdict."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from channel.core.errors import ChannelError
from channel.core.rng import stream


class NotRunHere(ChannelError):
    """A check cannot run on this machine or installation; the message has the reason."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check; `row` is that of the design's table, `tolerance` is absolute, in the unit of `expected`.

    `measure` may raise NotRunHere. With `is_quick` it takes about a second at most, else minutes.
    """

    row: str
    what: str
    expected: float
    tolerance: float
    measure: Callable[[], float]
    is_quick: bool = True


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The result of a check; if it did not run, `measured` is nan and `missing` the reason."""

    row: str
    what: str
    expected: float
    measured: float
    tolerance: float
    missing: str = ""

    @property
    def is_good(self) -> bool:
        """Whether the check ran and its value is within the tolerance."""
        return not self.missing and abs(self.measured - self.expected) <= self.tolerance

    @property
    def is_bad(self) -> bool:
        """Whether the check ran and its value is outside the tolerance."""
        return not self.missing and not self.is_good

    @property
    def word(self) -> str:
        """The verdict in words: pass, FAIL, or the reason why the check did not run."""
        return f"not run here: {self.missing}" if self.missing else "pass" if self.is_good else "FAIL"


def verdict(check: Check) -> Verdict:
    """Runs the measurement of a check."""
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
    """A check whose tolerance is `percent` of the expected value."""
    return Check(
        row=row,
        what=what,
        expected=expected,
        tolerance=abs(expected) * percent / 100.0,
        measure=measure,
        is_quick=is_quick,
    )


def rng_of(*names: str | int) -> np.random.Generator:
    """The random stream of a check; its seed is fixed, so that verdicts are reproducible."""
    return stream(0, "conformance", *names)
