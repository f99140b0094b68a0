"""Ratios of paired measurements, their median and their targets."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Target:
    """A bound on the median: at most or at least `bound`."""

    bound: float
    is_most: bool

    def is_met_by(self, ratio: float) -> bool:
        """Whether this ratio meets the bound, without tolerance."""
        return ratio <= self.bound if self.is_most else ratio >= self.bound

    def __str__(self) -> str:
        return f"{'<=' if self.is_most else '>='} {self.bound:g}"


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A row of the table: repeated measurements of one ratio; without `target` it is informative."""

    what: str
    ratios: tuple[float, ...]
    target: Target | None = None

    @property
    def median(self) -> float:
        """The median ratio, which is compared with the target."""
        return statistics.median(self.ratios)

    @property
    def is_met(self) -> bool | None:
        """Whether the median meets the target; None without a target."""
        return None if self.target is None else self.target.is_met_by(self.median)

    def as_row(self) -> dict[str, Any]:
        """The row as plain data, for JSON."""
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
    """An upper bound."""
    return Target(bound=bound, is_most=True)


def at_least(bound: float) -> Target:
    """A lower bound."""
    return Target(bound=bound, is_most=False)


def pair_ratios(numerators: Sequence[float], denominators: Sequence[float]) -> tuple[float, ...]:
    """Each measurement over its pair of the same sweep.

    Background load slows both of a pair, so that their ratio is stable.
    """
    return tuple(one / other for one, other in zip(numerators, denominators, strict=True))
