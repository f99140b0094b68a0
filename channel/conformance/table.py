"""All rows that this package can answer by itself, in order."""

from channel.conformance import code, fading, formats, ground, traffic
from channel.conformance.check import Check


def in_order(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """By the number of their rows; within a row as they are. 24 stands before 24b."""
    return tuple(sorted(checks, key=lambda check: (int(check.row.rstrip("b")), check.row)))


CHECKS: tuple[Check, ...] = in_order(
    (*fading.CHECKS, *ground.CHECKS, *traffic.CHECKS, *code.CHECKS, *formats.CHECKS)
)
