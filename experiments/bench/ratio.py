"""The arithmetic of a comparison: ratios of neighbours in time, their median, and what they ought to be."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound that the median is to keep: `at most` or `at least` so much."""

    bound: float
    is_most: bool

    def is_met_by(self, ratio: float) -> bool:
        """Whether this ratio keeps the bound; no margin is given."""
        return ratio <= self.bound if self.is_most else ratio >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.is_most else '>='} {self.bound:g}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table: the same ratio, taken several times; `target` None is for information."""

    what: str
    ratios: tuple[float, ...]
    target: Target | None = None

    @property
    def median(self) -> float:
        """The ratio that counts."""
        return statistics.median(self.ratios)

    @property
    def is_met(self) -> bool | None:
        """Whether the median keeps the target; None where there is none."""
        return None if self.target is None else self.target.is_met_by(self.median)

    def as_row(self) -> dict[str, Any]:
        """The line as plain data."""
        return {
            "what": self.what,
            "median": self.median,
            "min": min(self.ratios),
            "max": max(self.ratios),
            "ratios": list(self.ratios),
            "target": None if self.target is None else str(self.target),
            "is_met": self.is_met,
        }


def at_most(bound: float) -> Target:
    """The ratio is to be so large at most."""
    return Target(bound=bound, is_most=True)


def at_least(bound: float) -> Target:
    """The ratio is to be so large at least."""
    return Target(bound=bound, is_most=False)


def pair_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, ...]:
    """Each measurement over the one that was taken beside it, in the same sweep.

    What slows the machine for a while slows both of a pair, so their ratio stays.
    """
    return tuple(one / other for one, other in zip(numerators, denominators, strict=True))
