"""Activities on the virtual clock: spans of a round, and the time of each activity.

Every instant of a client's round has one of five activities. If two overlap (steps in
flight), the first in ACTIVITIES counts, so that a client's shares sum to the round.
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


class ActivitySpan(NamedTuple):
    """One activity for one client, from `start_s` to `finish_s`; client None is for all clients."""

    start_s: float
    finish_s: float
    activity: str
    client: int | None


def spans_by_round(run: RunRecord) -> dict[int, list[ActivitySpan]]:
    """Round -> spans, sorted by start."""
    spans: defaultdict[int, list[ActivitySpan]] = defaultdict(list)
    for row in run.events.computes:
        activity = CLIENT if row.side == "client" else SERVER
        spans[row.round].append(ActivitySpan(row.start_s, row.finish_s, activity, row.client))
    for transfer in run.events.transfers:
        activity = UP if transfer.direction == "up" else DOWN
        spans[transfer.round].append(
            ActivitySpan(transfer.start_s, transfer.finish_s, activity, transfer.client)
        )
    return {number: sorted(rows, key=lambda span: span[:3]) for number, rows in sorted(spans.items())}


def representative(rounds: dict[int, list[ActivitySpan]]) -> int:
    """The round of median length. `rounds` must not be empty."""
    by_length = sorted(rounds, key=lambda number: (_length(rounds[number]), number))
    return by_length[(len(by_length) - 1) // 2]


def bounds(spans: Iterable[ActivitySpan]) -> tuple[float, float]:
    """The earliest start and the latest finish of these spans, in seconds."""
    spans = list(spans)
    return min(span.start_s for span in spans), max(span.finish_s for span in spans)


def shares(spans: Sequence[ActivitySpan], start_s: float, finish_s: float) -> dict[str, float]:
    """The seconds of each activity between two instants; they sum to `finish_s - start_s`.

    Sweeps over all starts and finishes, counting the active spans of each activity.
    """
    changes = sorted(
        [(span.start_s, 1, span.activity) for span in spans]
        + [(span.finish_s, -1, span.activity) for span in spans]
    )
    active = dict.fromkeys(ACTIVITIES, 0)
    seconds = dict.fromkeys(ACTIVITIES, 0.0)
    now_s = start_s
    for moment_s, change, activity in [*changes, (finish_s, 0, WAITING)]:
        foremost = next((name for name in ACTIVITIES if active[name]), WAITING)
        seconds[foremost] += moment_s - now_s
        now_s = moment_s
        active[activity] += change
    return seconds


def mean_shares(spans: Sequence[ActivitySpan]) -> dict[str, float]:
    """Seconds of each activity in one round, averaged over the participating clients."""
    start_s, finish_s = bounds(spans)
    of_client: defaultdict[int, list[ActivitySpan]] = defaultdict(list)
    for span in spans:
        if span.client is not None:
            of_client[span.client].append(span)
    per_client = [shares(rows, start_s, finish_s) for rows in of_client.values()]
    return {name: sum(row[name] for row in per_client) / max(len(per_client), 1) for name in ACTIVITIES}


def _length(spans: Sequence[ActivitySpan]) -> float:
    start_s, finish_s = bounds(spans)
    return finish_s - start_s
