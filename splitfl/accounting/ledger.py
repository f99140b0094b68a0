"""The only place that counts: bytes, packets, airtime, energy and FLOPs, by whom and when."""

from collections import defaultdict
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from channel.core.link import DIRECTIONS, Delivery
from splitfl.core.state import State, raw, raw_in, tensor_in

SIDES = ("client", "server")


@dataclass(kw_only=True)
class Traffic:
    """What crossed one client's link in one direction.

    `lost` counts messages of which nothing came, `lost_packets` packets that never did, in whatever message;
    `symbols` are numbers sent as they are, two to a symbol, and no part of the bytes.
    """

    messages: int = 0
    lost: int = 0
    payload_bytes: int = 0
    packets: int = 0
    lost_packets: int = 0
    symbols: int = 0
    retransmissions: int = 0
    airtime_s: float = 0.0
    energy_j: float = 0.0

    def add(self, other: "Traffic") -> None:
        """What crossed there, too."""
        for one in fields(Traffic):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(kw_only=True)
class Ledger:
    """Sums over a run, filled as it goes; `traffic` is keyed by (round, client, direction)
    and `flops` by (round, side, client), side being `client` or `server`. Rounds that were closed are in the
    totals only. `chosen` is what the controller has settled, and why."""

    traffic: dict[tuple[int, int, str], Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    flops: dict[tuple[int, str, int], float] = field(default_factory=lambda: defaultdict(float))
    chosen: tuple[str, ...] = ()
    _closed: dict[str | None, Traffic] = field(
        default_factory=lambda: {way: Traffic() for way in (None, *DIRECTIONS)}
    )
    _closed_flops: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SIDES, 0.0))
    _updates: int = 0
    _staleness: int = 0

    def crossed(
        self,
        round_index: int,
        client: int,
        direction: str,
        payload_bytes: int,
        delivery: Delivery,
        *,
        is_lost: bool,
        symbols: int = 0,
    ) -> None:
        """One message crossed the link, whole or in part, or was lost on it."""
        entry = self.traffic[round_index, client, direction]
        entry.messages += 1
        entry.lost += is_lost
        entry.payload_bytes += payload_bytes
        entry.packets += delivery.packets
        entry.lost_packets += delivery.packets - int(delivery.arrived.sum())
        entry.symbols += symbols
        entry.retransmissions += delivery.retransmissions
        entry.airtime_s += delivery.airtime_s
        entry.energy_j += delivery.energy_j

    def close(self, before: int) -> None:
        """Keeps of the rounds before this one no more than their sums, so that a long run is no burden.

        The totals are the same to the last bit as if nothing had been closed.
        """
        for key in sorted(key for key in self.traffic if key[0] < before):
            entry = self.traffic.pop(key)
            for way in (None, key[2]):
                self._closed[way].add(entry)
        for work in sorted(work for work in self.flops if work[0] < before):
            self._closed_flops[work[1]] += self.flops.pop(work)

    def state(self) -> State:
        """Every count; see Stateful."""
        keys = [[at, client, DIRECTIONS.index(way)] for at, client, way in self.traffic]
        sums = [list(vars(entry).values()) for entry in self.traffic.values()]
        work = [[at, SIDES.index(side), client] for at, side, client in self.flops]
        return {
            "traffic": torch.tensor(keys, dtype=torch.int64),
            "sums": torch.tensor(sums, dtype=torch.float64),
            "work": torch.tensor(work, dtype=torch.int64),
            "flops": torch.tensor(list(self.flops.values()), dtype=torch.float64),
            "closed": torch.tensor(
                [list(vars(one).values()) for one in self._closed.values()], dtype=torch.float64
            ),
            "closed_flops": torch.tensor(list(self._closed_flops.values()), dtype=torch.float64),
            "chosen": raw("\n".join(self.chosen).encode()),
        }

    def restore(self, state: State) -> None:
        """See Stateful; a count is exact up to 2^53."""
        self.traffic.clear()
        self.flops.clear()
        rows = zip(tensor_in(state, "traffic").tolist(), tensor_in(state, "sums").tolist(), strict=True)
        for (at, client, way), sums in rows:
            self.traffic[at, client, DIRECTIONS[way]] = _traffic(sums)
        work = zip(tensor_in(state, "work").tolist(), tensor_in(state, "flops").tolist(), strict=True)
        for (at, side, client), flops in work:
            self.flops[at, SIDES[side], client] = flops
        closed = zip(self._closed, tensor_in(state, "closed").tolist(), strict=True)
        self._closed = {key: _traffic(sums) for key, sums in closed}
        self._closed_flops = dict(zip(SIDES, tensor_in(state, "closed_flops").tolist(), strict=True))
        chosen = raw_in(state, "chosen").decode()
        self.chosen = tuple(chosen.split("\n")) if chosen else ()

    def computed(self, round_index: int, side: str, client: int, flops: float) -> None:
        """One side worked for one client."""
        self.flops[round_index, side, client] += flops

    def aged(self, staleness: int) -> None:
        """A client's work came in, and so many versions there had been since it began."""
        self._updates += 1
        self._staleness += staleness

    def mean_staleness(self) -> float | None:
        """Over all work that came in; None where clients wait for each other."""
        return self._staleness / self._updates if self._updates else None

    def total(self, direction: str | None = None) -> Traffic:
        """All rounds and clients together, in one direction or both."""
        total = replace(self._closed[direction])
        for (_, _, way), entry in sorted(self.traffic.items(), key=lambda item: item[0]):
            if direction in (None, way):
                total.add(entry)
        return total

    def total_flops(self, side: str) -> float:
        """All rounds and clients together, on one side."""
        total = self._closed_flops[side]
        for (_, one, _), flops in sorted(self.flops.items()):
            total += flops if one == side else 0.0
        return total


def _traffic(sums: list[float]) -> Traffic:
    counted: dict[str, Any] = {
        one.name: value if one.type is float else int(value)
        for one, value in zip(fields(Traffic), sums, strict=True)
    }
    return Traffic(**counted)
