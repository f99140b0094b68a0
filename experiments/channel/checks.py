"""The whole conformance table: what the radio answers by itself, and what needs more than it."""

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
    """What the checks of these rows found, or of all rows for none; what takes long only where thorough.

    Raises BadParameter for a row that is not there.
    """
    known = list(dict.fromkeys(check.row for check in ALL))
    for row in rows:
        if row not in known:
            raise BadParameter(f"row must be one of {', '.join(known)}, got {row!r}")
    chosen = [check for check in ALL if not rows or check.row in rows]
    return [verdict(check if is_thorough or check.is_quick else _put_off(check)) for check in chosen]


def _put_off(check: Check) -> Check:
    return replace(check, measure=_takes_long)


def _takes_long() -> float:
    raise NotRunHere("takes long; ask with --thorough")
