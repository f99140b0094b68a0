"""One-way delays of a run's messages, from the times that both ends recorded and the clocks' offsets.

The transit of a message and its reply, the round trip less the time at the server, is a difference of two
durations and needs no offset. Only its division into the two directions does: the request's delay lies within
the uncertainty of both offsets, and in [0, transit].
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from testbed.clocks import ClockOffset, NodeClock

MESSAGES: Final = "messages.jsonl"
"""The file of message times in a node's folder, and the file of the merged ones in the run's folder."""

Row = Mapping[str, Any]
Clocks = Mapping[str, Sequence[ClockOffset]]


@dataclass(frozen=True, kw_only=True)
class MessageTime:
    """A client's request and its reply, in seconds on the clock of the machine that collected.

    The request left at `sent_s` and arrived `up_s` later; the reply left the server at `answered_s` and
    arrived `down_s` later, at `received_s`. Both delays lie within `within_s` of what is stated.
    """

    client: int
    kind: str
    round: int
    bytes_up: int
    bytes_down: int
    sent_s: float
    arrived_s: float
    answered_s: float
    received_s: float
    within_s: float

    @property
    def up_s(self) -> float:
        """The one-way delay of the request."""
        return self.arrived_s - self.sent_s

    @property
    def down_s(self) -> float:
        """The one-way delay of the reply."""
        return self.received_s - self.answered_s


@dataclass(frozen=True, kw_only=True)
class ClientDelays:
    """The delays of a client's messages in seconds: median and 95th percentile, each way.

    `within_s` is the median of their uncertainties. `contradictory` messages, which the offsets let arrive
    before they were sent, as after a step of a clock, are left out.
    """

    client: int
    messages: int
    contradictory: int
    up_s: float
    up_p95_s: float
    down_s: float
    down_p95_s: float
    within_s: float


def merged_messages(
    folder: Path, server: str, clients: Mapping[int, str], clocks: Clocks
) -> tuple[list[MessageTime], list[ClientDelays]]:
    """All messages in the order in which they were sent, and the delays of each client that has any.

    `folder` has a folder for each node; `server` and `clients` are names of nodes. Clients whose records or
    clock offsets are missing are left out.
    """
    if not clocks.get(server):
        return [], []
    served: defaultdict[tuple[int, str], list[Row]] = defaultdict(list)
    for row in _rows(folder / server / MESSAGES):
        served[row["client"], row["digest"]].append(row)
    messages: list[MessageTime] = []
    delays: list[ClientDelays] = []
    for client, node in clients.items():
        if not clocks.get(node):
            continue
        pair = _Pair(NodeClock(clocks[node]), NodeClock(clocks[server]))
        both = [(row, served[client, row["digest"]]) for row in _rows(folder / node / MESSAGES)]
        found = [pair.message(row, answers) for row, answers in both if answers]
        known = [one for one in found if one is not None]
        messages += known
        if known:
            delays.append(_delays(client, known, len(found) - len(known)))
    return sorted(messages, key=lambda one: one.sent_s), delays


class _Pair:
    """The clocks of a client and of the server."""

    def __init__(self, client: NodeClock, server: NodeClock) -> None:
        self._client, self._server = client, server

    def message(self, row: Row, answers: Sequence[Row]) -> MessageTime | None:
        """The message of a client's record; None if it contradicts all answers to such a request.

        There are several if a round was repeated from a checkpoint.
        """
        return next((one for answer in answers if (one := self._matched(row, answer)) is not None), None)

    def _matched(self, row: Row, answer: Row) -> MessageTime | None:
        sent_s, sent_within_s = self._client.here(row["sent_s"])
        arrived_s, arrived_within_s = self._server.here(answer["arrived_s"])
        within_s = sent_within_s + arrived_within_s
        served_s = answer["answered_s"] - answer["arrived_s"]
        transit_s = row["received_s"] - row["sent_s"] - served_s
        least_s = max(arrived_s - sent_s - within_s, 0.0)
        most_s = min(arrived_s - sent_s + within_s, transit_s)
        if least_s > most_s:
            return None
        arrived_s = sent_s + (least_s + most_s) / 2
        return MessageTime(
            **{key: row[key] for key in ("client", "kind", "round", "bytes_up", "bytes_down")},
            sent_s=sent_s,
            arrived_s=arrived_s,
            answered_s=arrived_s + served_s,
            received_s=sent_s + served_s + transit_s,
            within_s=(most_s - least_s) / 2,
        )


def _delays(client: int, messages: Sequence[MessageTime], contradictory: int) -> ClientDelays:
    up_s, up_p95_s = np.percentile([one.up_s for one in messages], [50, 95])
    down_s, down_p95_s = np.percentile([one.down_s for one in messages], [50, 95])
    return ClientDelays(
        client=client,
        messages=len(messages),
        contradictory=contradictory,
        up_s=float(up_s),
        up_p95_s=float(up_p95_s),
        down_s=float(down_s),
        down_p95_s=float(down_p95_s),
        within_s=float(np.median([one.within_s for one in messages])),
    )


def _rows(path: Path) -> Iterator[Row]:
    """The records of a file; none without one. A killed process may leave an unfinished line."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            continue
