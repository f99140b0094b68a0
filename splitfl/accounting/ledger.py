"""The only place that counts bytes, packets, airtime, energy and FLOPs, by round, client and side."""

from collections import defaultdict
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from channel.core.link import DIRECTIONS, Delivery
from splitfl.core.state import State, raw, raw_in, tensor_in

SIDES = ("client", "server")


@dataclass(kw_only=True)
class Traffic:
    """The traffic of one client in one direction.

    `lost` counts messages that were lost entirely, `lost_packets` packets lost in any message; `symbols`
    counts analog symbols of two values each, which are not part of the bytes.
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
        """Adds the counters of `other`."""
        for one in fields(Traffic):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


@dataclass(kw_only=True)
class Ledger:
    """Counters of a run.

    `traffic` is keyed by (round, client, direction) and `flops` by (round, side, client), with side `client`
    or `server`. Closed rounds are in the totals only. `chosen` holds the controller's decisions with reasons.
    """

    traffic: dict[tuple[int, int, str], Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    flops: dict[tuple[int, str, int], float] = field(default_factory=lambda: defaultdict(float))
    chosen: tuple[str, ...] = ()
    _closed: dict[str | None, Traffic] = field(
        default_factory=lambda: {direction: Traffic() for direction in (None, *DIRECTIONS)}
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
        """Records one message on the link, received completely, partly or not at all."""
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
        """Replaces the entries of rounds before this one by their sums, to bound memory in long runs.

        The totals are bit-identical to those without closing.
        """
        for key in sorted(key for key in self.traffic if key[0] < before):
            entry = self.traffic.pop(key)
            for direction in (None, key[2]):
                self._closed[direction].add(entry)
        for work in sorted(work for work in self.flops if work[0] < before):
            self._closed_flops[work[1]] += self.flops.pop(work)

    def state(self) -> State:
        """All counters."""
        keys = [[at, client, DIRECTIONS.index(direction)] for at, client, direction in self.traffic]
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
        """Restores all counters, exact up to 2^53."""
        self.traffic.clear()
        self.flops.clear()
        rows = zip(tensor_in(state, "traffic").tolist(), tensor_in(state, "sums").tolist(), strict=True)
        for (at, client, direction), sums in rows:
            self.traffic[at, client, DIRECTIONS[direction]] = _traffic(sums)
        work = zip(tensor_in(state, "work").tolist(), tensor_in(state, "flops").tolist(), strict=True)
        for (at, side, client), flops in work:
            self.flops[at, SIDES[side], client] = flops
        closed = zip(self._closed, tensor_in(state, "closed").tolist(), strict=True)
        self._closed = {key: _traffic(sums) for key, sums in closed}
        self._closed_flops = dict(zip(SIDES, tensor_in(state, "closed_flops").tolist(), strict=True))
        chosen = raw_in(state, "chosen").decode()
        self.chosen = tuple(chosen.split("\n")) if chosen else ()

    def computed(self, round_index: int, side: str, client: int, flops: float) -> None:
        """Records FLOPs of one side for one client."""
        self.flops[round_index, side, client] += flops

    def aged(self, staleness: int) -> None:
        """Records the staleness of a received update, in versions."""
        self._updates += 1
        self._staleness += staleness

    def mean_staleness(self) -> float | None:
        """The mean staleness over all received updates; None in the synchronous schedule."""
        return self._staleness / self._updates if self._updates else None

    def total(self, direction: str | None = None) -> Traffic:
        """The traffic of all rounds and clients, in one direction or both (None)."""
        total = replace(self._closed[direction])
        for (_, _, one), entry in sorted(self.traffic.items(), key=lambda item: item[0]):
            if direction in (None, one):
                total.add(entry)
        return total

    def total_flops(self, side: str) -> float:
        """The FLOPs of all rounds and clients on one side."""
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
