"""All checks that this package can run by itself, in order."""

from channel.validation import arq_and_queues as traffic
from channel.validation import block_error as code
from channel.validation import fading, fidelity, formats
from channel.validation import propagation as ground
from channel.validation.check import Check


def in_order(checks: tuple[Check, ...]) -> tuple[Check, ...]:
    """The checks sorted by row number, with 24 before 24b; stable within a row."""
    return tuple(sorted(checks, key=lambda check: (int(check.row.rstrip("b")), check.row)))


CHECKS: tuple[Check, ...] = in_order(
    (*fading.CHECKS, *ground.CHECKS, *traffic.CHECKS, *code.CHECKS, *formats.CHECKS, *fidelity.CHECKS)
)
