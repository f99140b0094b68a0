"""Sums over a run's events: per client, per message kind, per round."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from splitfl.core.metrics import JUDGES
from splitfl.run_folder.events import RoundEvent, Step, TransferEvent
from splitfl.run_folder.read import RunRecord


class MetricCurve(NamedTuple):
    """Points of a plot: `ys[i]` was measured at `xs[i]`."""

    xs: list[float]
    ys: list[float]


class ClientTally(NamedTuple):
    """Totals of one client; losses are means over the samples of its first and last round, None without."""

    client: int
    samples: int
    bytes_up: int
    bytes_down: int
    airtime_s: float
    packets: int
    retransmissions: int
    lost_messages: int
    first_loss: float | None
    last_loss: float | None

    @property
    def retransmission_rate(self) -> float:
        """The share of retransmissions among packet transmissions, an estimate of the link's loss rate."""
        return self.retransmissions / max(self.packets + self.retransmissions, 1)


def by_client(run: RunRecord) -> list[ClientTally]:
    """One row for each client, in order."""
    steps: defaultdict[int, list[Step]] = defaultdict(list)
    transfers: defaultdict[int, list[TransferEvent]] = defaultdict(list)
    for step in run.events.steps:
        steps[step.client].append(step)
    for transfer in run.events.transfers:
        transfers[transfer.client].append(transfer)
    return [_tally(client, steps[client], transfers[client]) for client in run.clients]


def bytes_by_kind(run: RunRecord, direction: str) -> dict[str, Counter[int]]:
    """Message kind -> client -> bytes in this direction."""
    counted: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for row in run.events.transfers:
        if row.direction == direction:
            counted[row.kind][row.client] += row.payload_bytes
    return dict(counted)


def airtime_by_client(run: RunRecord) -> dict[int, dict[int, float]]:
    """Client -> round -> airtime in seconds."""
    seconds: defaultdict[int, defaultdict[int, float]] = defaultdict(lambda: defaultdict(float))
    for row in run.events.transfers:
        seconds[row.client][row.round] += row.airtime_s
    return {client: dict(rounds) for client, rounds in sorted(seconds.items())}


def curve(run: RunRecord, metric: str, against: str = "rounds") -> MetricCurve:
    """A metric of the round events against cumulative spending.

    `against` is `rounds` (completed), `bytes`, `airtime` or `energy` (of all clients, both directions).
    """
    rows = [row for row in run.events.rounds if getattr(row, metric) is not None]
    spent = _spent(run, against)
    return MetricCurve([spent[row.round] for row in rows], [float(getattr(row, metric)) for row in rows])


def client_losses(run: RunRecord) -> dict[int, MetricCurve]:
    """Client -> its mean training loss in every round."""
    grouped: defaultdict[int, defaultdict[int, list[Step]]] = defaultdict(lambda: defaultdict(list))
    for step in run.events.steps:
        grouped[step.client][step.round].append(step)
    return {
        client: MetricCurve(
            [number + 1.0 for number in rounds], [_mean_loss(rows) for rows in rounds.values()]
        )
        for client, rounds in sorted(grouped.items())
    }


def measured(run: RunRecord) -> str | None:
    """The run's held-out metric, one of JUDGES, or None."""
    for metric in JUDGES:
        if any(getattr(row, metric) is not None for row in run.events.rounds):
            return metric
    return None


def _tally(client: int, steps: Sequence[Step], transfers: Sequence[TransferEvent]) -> ClientTally:
    rounds = sorted({step.round for step in steps})
    ends = rounds[:1] + rounds[-1:]
    losses = [_mean_loss(step for step in steps if step.round == number) for number in ends]
    return ClientTally(
        client=client,
        samples=sum(step.samples for step in steps),
        bytes_up=sum(row.payload_bytes for row in transfers if row.direction == "up"),
        bytes_down=sum(row.payload_bytes for row in transfers if row.direction == "down"),
        airtime_s=sum(row.airtime_s for row in transfers),
        packets=sum(row.packets for row in transfers),
        retransmissions=sum(row.retransmissions for row in transfers),
        lost_messages=sum(row.lost for row in transfers),
        first_loss=losses[0] if losses else None,
        last_loss=losses[-1] if losses else None,
    )


def _mean_loss(steps: Iterable[Step]) -> float:
    rows = list(steps)
    return sum(row.loss * row.samples for row in rows) / max(sum(row.samples for row in rows), 1)


def _spent(run: RunRecord, against: str) -> dict[int, float]:
    """Round -> cumulative spending at its end."""
    if against == "rounds":
        return {row.round: row.round + 1.0 for row in run.events.rounds}
    field = {"bytes": "payload_bytes", "airtime": "airtime_s", "energy": "energy_j"}[against]
    each: defaultdict[int, float] = defaultdict(float)
    for row in run.events.transfers:
        each[row.round] += getattr(row, field)
    ended: Sequence[RoundEvent] = sorted(run.events.rounds, key=lambda row: row.round)
    totals = accumulate(each[row.round] for row in ended)
    return {row.round: total for row, total in zip(ended, totals, strict=True)}
