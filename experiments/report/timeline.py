"""Who did what when, on the virtual clock: one round as spans, and where its time goes.

Every instant of a client's round is one of five activities. Where two overlap (steps in
flight), the one that is named first counts, so that a client's shares add up to the round.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from splitfl.run_folder.read import RunRecord

CLIENT, UP, DOWN, SERVER, WAITING = ACTIVITIES = (
    "client computes",
    "uplink",
    "downlink",
    "server computes",
    "waiting",
)


class Span(NamedTuple):
    """One activity for one client, from `start_s` to `finish_s`; no client where it is for all of them."""

    start_s: float
    finish_s: float
    activity: str
    client: int | None


def spans_by_round(run: RunRecord) -> dict[int, list[Span]]:
    """What happened in every round, sorted by start."""
    spans: defaultdict[int, list[Span]] = defaultdict(list)
    for row in run.events.computes:
        activity = CLIENT if row.side == "client" else SERVER
        spans[row.round].append(Span(row.start_s, row.finish_s, activity, row.client))
    for move in run.events.transfers:
        activity = UP if move.direction == "up" else DOWN
        spans[move.round].append(Span(move.start_s, move.finish_s, activity, move.client))
    return {number: sorted(rows, key=lambda span: span[:3]) for number, rows in sorted(spans.items())}


def representative(rounds: dict[int, list[Span]]) -> int:
    """The round of median length: neither the fastest nor the slowest. `rounds` must not be empty."""
    by_length = sorted(rounds, key=lambda number: (_length(rounds[number]), number))
    return by_length[(len(by_length) - 1) // 2]


def bounds(spans: Iterable[Span]) -> tuple[float, float]:
    """When the first of these spans starts and the last one ends, in seconds."""
    spans = list(spans)
    return min(span.start_s for span in spans), max(span.finish_s for span in spans)


def shares(spans: Sequence[Span], start_s: float, finish_s: float) -> dict[str, float]:
    """The seconds of each activity between two instants; they sum to `finish_s - start_s`.

    A sweep over all starts and ends that counts what is going on in between.
    """
    changes = sorted(
        [(span.start_s, 1, span.activity) for span in spans]
        + [(span.finish_s, -1, span.activity) for span in spans]
    )
    going_on = dict.fromkeys(ACTIVITIES, 0)
    seconds = dict.fromkeys(ACTIVITIES, 0.0)
    now_s = start_s
    for moment_s, change, activity in [*changes, (finish_s, 0, WAITING)]:
        foremost = next((name for name in ACTIVITIES if going_on[name]), WAITING)
        seconds[foremost] += moment_s - now_s
        now_s = moment_s
        going_on[activity] += change
    return seconds


def mean_shares(spans: Sequence[Span]) -> dict[str, float]:
    """The seconds of each activity in one round, averaged over the clients that took part in it."""
    start_s, finish_s = bounds(spans)
    of_client: defaultdict[int, list[Span]] = defaultdict(list)
    for span in spans:
        if span.client is not None:
            of_client[span.client].append(span)
    per_client = [shares(rows, start_s, finish_s) for rows in of_client.values()]
    return {name: sum(row[name] for row in per_client) / max(len(per_client), 1) for name in ACTIVITIES}


def _length(spans: Sequence[Span]) -> float:
    start_s, finish_s = bounds(spans)
    return finish_s - start_s
