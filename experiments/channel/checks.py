"""The whole conformance table: the channel's own checks, and those that need Sionna, root or a testbed."""

from collections.abc import Sequence
from dataclasses import replace

from channel.core.errors import BadParameter
from channel.validation import CHECKS, Check, NotRunHere, Verdict, verdict
from channel.validation.table import in_order
from experiments.channel import lab as channel_lab
from experiments.channel import live as channel_live
from experiments.channel import oracle as channel_oracle

ALL: tuple[Check, ...] = in_order(
    (*CHECKS, *channel_oracle.CHECKS, *channel_live.CHECKS, *channel_lab.CHECKS)
)


def verdicts(rows: Sequence[str], *, is_thorough: bool) -> list[Verdict]:
    """Verdicts of these rows' checks (all rows if empty); slow checks run only if `is_thorough`.

    Raises BadParameter for an unknown row.
    """
    known = list(dict.fromkeys(check.row for check in ALL))
    for row in rows:
        if row not in known:
            raise BadParameter(f"row must be one of {', '.join(known)}, got {row!r}")
    chosen = [check for check in ALL if not rows or check.row in rows]
    return [verdict(check if is_thorough or check.is_quick else _skipped(check)) for check in chosen]


def _skipped(check: Check) -> Check:
    return replace(check, measure=_is_slow)


def _is_slow() -> float:
    raise NotRunHere("slow; run with --thorough")
