"""The only place that counts: bytes, packets, airtime, energy and FLOPs, by whom and when."""

from collections import defaultdict
from dataclasses import dataclass, field

from channel.link import Delivery


@dataclass(kw_only=True)
class Traffic:
    """What crossed one client's link in one direction."""

    messages: int = 0
    lost: int = 0
    payload_bytes: int = 0
    packets: int = 0
    retransmissions: int = 0
    airtime_s: float = 0.0
    energy_j: float = 0.0


@dataclass(kw_only=True)
class Ledger:
    """Sums over a run, filled as it goes; `traffic` is keyed by (round, client, direction)
    and `flops` by (round, side, client), side being `client` or `server`."""

    traffic: dict[tuple[int, int, str], Traffic] = field(default_factory=lambda: defaultdict(Traffic))
    flops: dict[tuple[int, str, int], float] = field(default_factory=lambda: defaultdict(float))

    def crossed(
        self, round_index: int, client: int, direction: str, payload_bytes: int, delivery: Delivery
    ) -> None:
        """One message crossed the link, or was lost on it."""
        entry = self.traffic[round_index, client, direction]
        entry.messages += 1
        entry.lost += not delivery.is_complete
        entry.payload_bytes += payload_bytes
        entry.packets += delivery.packets
        entry.retransmissions += delivery.retransmissions
        entry.airtime_s += delivery.airtime_s
        entry.energy_j += delivery.energy_j

    def computed(self, round_index: int, side: str, client: int, flops: float) -> None:
        """One side worked for one client."""
        self.flops[round_index, side, client] += flops

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
