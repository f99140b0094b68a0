"""The only place that counts: bytes, packets, airtime, energy and FLOPs, by whom and when."""

from collections import defaultdict
from dataclasses import dataclass, field, fields

import torch

from channel.link import DIRECTIONS, Delivery
from splitfl.state import State, tensor_in

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


@dataclass(kw_only=True)
class Ledger:
    """Sums over a run, filled as it goes; `traffic` is keyed by (round, client, direction)
    and `flops` by (round, side, client), side being `client` or `server`. `staleness` says by (round,
    client), where clients go at their own pace, how many versions there had been since their work began, and
    `chosen` what the controller settled before the run, and why."""

    traffic: dict[tuple[int, int, str], Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    flops: dict[tuple[int, str, int], float] = field(default_factory=lambda: defaultdict(float))
    staleness: dict[tuple[int, int], int] = field(default_factory=dict)
    chosen: tuple[str, ...] = ()

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
        }

    def restore(self, state: State) -> None:
        """See Stateful; a count is exact up to 2^53."""
        self.traffic.clear()
        self.flops.clear()
        rows = zip(tensor_in(state, "traffic").tolist(), tensor_in(state, "sums").tolist(), strict=True)
        for (at, client, way), sums in rows:
            values = zip(fields(Traffic), sums, strict=True)
            counted = {one.name: value if one.type is float else int(value) for one, value in values}
            self.traffic[at, client, DIRECTIONS[way]] = Traffic(**counted)
        work = zip(tensor_in(state, "work").tolist(), tensor_in(state, "flops").tolist(), strict=True)
        for (at, side, client), flops in work:
            self.flops[at, SIDES[side], client] = flops

    def computed(self, round_index: int, side: str, client: int, flops: float) -> None:
        """One side worked for one client."""
        self.flops[round_index, side, client] += flops

    def aged(self, round_index: int, client: int, staleness: int) -> None:
        """A client's work came in that had begun from a version so old."""
        self.staleness[round_index, client] = staleness

    def mean_staleness(self) -> float | None:
        """Over all work that came in; None where clients wait for each other."""
        return sum(self.staleness.values()) / len(self.staleness) if self.staleness else None

    def total(self, direction: str | None = None) -> Traffic:
        """All rounds and clients together, in one direction or both."""
        total = Traffic()
        for (_, _, way), entry in sorted(self.traffic.items()):
            if direction in (None, way):
                for name, value in vars(entry).items():
                    setattr(total, name, getattr(total, name) + value)
        return total

    def total_flops(self, side: str) -> float:
        """All rounds and clients together, on one side."""
        return sum(flops for (_, one, _), flops in sorted(self.flops.items()) if one == side)
