"""A live emulation as settings: made and checked in one process, carried out in another."""

from dataclasses import asdict, dataclass
from typing import Any

from channel.cell.engine import engine_of
from channel.core.arrays import whole
from channel.core.link import Link
from channel.live.cell_decider import CellDecider
from channel.live.decider import Decider, LinkDecider
from channel.live.forwarder import Forwarder
from channel.live.switch import Order, Switch
from channel.scenario.load import Scenario

LEAST_MTU_BYTES = 576
"""What every IPv4 host must be able to take (RFC 791, section 3.2)."""


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """A link between a server and `clients`, whose addresses are those of `network`.

    The air is a link of the virtual clock, or a scenario's cell, whose first users are the clients; with a
    `recovery` of "unacknowledged" the cell loses what HARQ gives up. `queue_bytes` wait at most for each
    client in each direction; what comes then is dropped. Raises BadParameter for packets of fewer than 576
    bytes, which IP does not have to put up with, and for a queue without room for one.
    """

    air: Link | Scenario
    clients: int
    order: Order
    recovery: str = "acknowledged"
    queue_bytes: int = 500_000
    mtu_bytes: int = 1500
    network: str = "10.77.0.0/24"

    def __post_init__(self) -> None:
        whole("mtu_bytes of a live link", self.mtu_bytes, LEAST_MTU_BYTES)
        whole("queue_bytes of a live link", self.queue_bytes, self.mtu_bytes)

    def switch(self) -> Switch:
        """Who decides and keeps the packets. Raises BadParameter for whatever cannot be."""
        return Switch(self.decider(), self.network, self.clients, self.order)

    def decider(self) -> Decider:
        """Who decides, at time 0."""
        if isinstance(self.air, Scenario):
            engine = engine_of(self.air, mtu_bytes=self.mtu_bytes, recovery=self.recovery)
            return CellDecider(engine, self.clients, self.queue_bytes)
        return LinkDecider(self.air, self.clients, self.queue_bytes)


def measured(switch: Switch, forwarder: Forwarder) -> dict[str, Any]:
    """What an emulation found, as plain data: a row for each client and direction, and its own lateness."""
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
