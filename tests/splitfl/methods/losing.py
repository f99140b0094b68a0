"""A link that loses what a test chooses."""

from dataclasses import dataclass, field

import numpy as np

from channel.core.link import Delivery, Transfer
from channel.links.fixed import FixedLink


@dataclass(frozen=True)
class Losing:
    """An ideal link that loses chosen messages, named by client, direction and their number there."""

    lost: frozenset[tuple[int, str, int]]
    under: FixedLink = field(default_factory=lambda: FixedLink(seed=0))

    def transfer(self, transfer: Transfer) -> Delivery:
        delivery = self.under.transfer(transfer)
        if (transfer.client, transfer.direction, transfer.sequence) not in self.lost:
            return delivery
        return Delivery(
            arrived=np.zeros_like(delivery.arrived),
            finish_s=delivery.finish_s,
            retransmissions=0,
            airtime_s=0.0,
            energy_j=0.0,
        )
