"""The settings of a live emulation: validated in one process, run in another."""

from dataclasses import asdict, dataclass
from typing import Any

from channel.cell.engine import engine_of
from channel.core.arrays import whole
from channel.core.link import Link
from channel.live.cell_decider import CellDecider
from channel.live.decider import Decider, LinkDecider
from channel.live.forwarder import Forwarder
from channel.live.switch import DeliveryOrder, Switch
from channel.scenario.load import Scenario

MIN_MTU_BYTES = 576
"""The datagram size that every IPv4 host must accept (RFC 791, section 3.2)."""


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """An emulated link between a server and `clients`, with addresses of `network`.

    `air` is a simulated link, or a scenario whose cell has the clients as its first users; with a
    `recovery` of "unacknowledged" blocks that HARQ gives up are lost. Each client has a queue of
    `queue_bytes` per direction; packets that do not fit are dropped. Raises BadParameter for an MTU below
    576 bytes, the least that IPv4 requires, and for a queue smaller than one packet.
    """

    air: Link | Scenario
    clients: int
    order: DeliveryOrder
    recovery: str = "acknowledged"
    queue_bytes: int = 500_000
    mtu_bytes: int = 1500
    network: str = "10.77.0.0/24"

    def __post_init__(self) -> None:
        whole("mtu_bytes of a live link", self.mtu_bytes, MIN_MTU_BYTES)
        whole("queue_bytes of a live link", self.queue_bytes, self.mtu_bytes)

    def switch(self) -> Switch:
        """A switch at time 0. Raises BadParameter for too many clients and for settings out of range."""
        return Switch(self.decider(), self.network, self.clients, self.order)

    def decider(self) -> Decider:
        """The decider of the emulated link, at time 0."""
        if isinstance(self.air, Scenario):
            engine = engine_of(self.air, mtu_bytes=self.mtu_bytes, recovery=self.recovery)
            return CellDecider(engine, self.clients, self.queue_bytes)
        return LinkDecider(self.air, self.clients, self.queue_bytes)


def measured(switch: Switch, forwarder: Forwarder) -> dict[str, Any]:
    """The measurements of an emulation as plain data: a row per client and direction, and the lateness."""
    rows = [
        {
            "client": client,
            "direction": direction,
            **asdict(count),
            "loss_rate": count.loss_rate,
            "throughput_bps": count.throughput_bps,
        }
        for (client, direction), count in switch.counts.items()
    ]
    return {
        "links": rows,
        "lateness": asdict(forwarder.lateness.figures()),
        "strays": switch.strays,
        "refused": forwarder.refused,
    }
