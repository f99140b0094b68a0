"""One round of a testbed's nodes on one real clock, and the messages' one-way delays."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes

from experiments.report.gantt import draw_lanes
from experiments.report.timeline import CLIENT, DOWN, SERVER, UP, ActivitySpan, representative
from splitfl.core.errors import ConfigError
from testbed.remote.collect import DELAYS
from testbed.remote.message_delays import MESSAGES, MessageTime

MAX_MESSAGES = 600
"""Messages of a round that are drawn, from its start."""


def read_messages(folder: Path) -> list[MessageTime]:
    """The messages of a collected run in the order of their sending; none without records.

    Raises ConfigError for a damaged file.
    """
    path = folder / MESSAGES
    if not path.exists():
        return []
    try:
        return [MessageTime(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {error!r}") from None


def delay_rows(folder: Path, nodes: Mapping[int, str]) -> list[dict[str, str]]:
    """A row of texts for each client's one-way delays; `nodes` are the clients' nodes."""
    path = folder / DELAYS
    if not path.exists():
        return []
    try:
        return [_row(row, nodes[row["client"]]) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {error!r}") from None


def shown_round(messages: Sequence[MessageTime]) -> list[MessageTime]:
    """The messages of the round of median length, its first ones if there are many; none without rounds."""
    rounds: defaultdict[int, list[MessageTime]] = defaultdict(list)
    for one in messages:
        if one.round >= 0:
            rounds[one.round].append(one)
    if not rounds:
        return []
    spans = {
        number: [ActivitySpan(one.sent_s, one.received_s, UP, one.client) for one in found]
        for number, found in rounds.items()
    }
    return rounds[representative(spans)][:MAX_MESSAGES]


def draw_nodes(axes: Axes, messages: Sequence[MessageTime], nodes: Mapping[int, str], server: str) -> None:
    """Draws one round's messages: each client's lane, and the server's."""
    origin_s = min(one.sent_s for one in messages)
    until_s = max(one.received_s for one in messages) - origin_s
    own: defaultdict[int, list[MessageTime]] = defaultdict(list)
    for one in messages:
        own[one.client].append(one)
    lanes = {}
    for client, found in sorted(own.items()):
        within_ms = 1e3 * max(one.within_s for one in found)
        name = f"client {client} ({nodes[client]})\n\u00b1 {within_ms:.1f} ms"
        lanes[name] = list(_client_spans(found, origin_s))
    lanes[f"server ({server})"] = [
        ActivitySpan(one.arrived_s - origin_s, one.answered_s - origin_s, SERVER, None) for one in messages
    ]
    draw_lanes(axes, lanes, until_s, server="server holds a request")
    axes.set_xlabel(f"seconds since the first message of round {messages[0].round + 1}")


def _client_spans(messages: Sequence[MessageTime], origin_s: float) -> Iterator[ActivitySpan]:
    for one in messages:
        yield ActivitySpan(one.sent_s - origin_s, one.arrived_s - origin_s, UP, one.client)
        yield ActivitySpan(one.answered_s - origin_s, one.received_s - origin_s, DOWN, one.client)
    for before, after in pairwise(messages):
        yield ActivitySpan(before.received_s - origin_s, after.sent_s - origin_s, CLIENT, before.client)


def _row(row: Mapping[str, float], node: str) -> dict[str, str]:
    within = f"\u00b1 {1e3 * row['within_s']:.1f} ms"
    return {
        "client": f"{row['client']} ({node})",
        "messages": f"{row['messages']:,}",
        "up": f"{1e3 * row['up_s']:.1f} {within}",
        "up_p95": f"{1e3 * row['up_p95_s']:.1f} ms",
        "down": f"{1e3 * row['down_s']:.1f} {within}",
        "down_p95": f"{1e3 * row['down_p95_s']:.1f} ms",
        "contradictory": f"{row['contradictory']:,}",
    }
