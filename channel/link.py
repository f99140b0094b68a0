"""The seam between what is sent and what the air does to it.

A link is asked about one transfer at a time, in the sender's own time, and answers
which packets arrived and what they cost. It never sees the bytes themselves.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.errors import BadParameter

DIRECTIONS = ("up", "down")
"""From the client to the server, and back."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One message that wants to cross.

    `sequence` counts this client's messages in this direction, so that the transfer has
    a name of its own and its chances do not depend on when anyone else sends.
    """

    client: int
    direction: str
    sequence: int
    payload_bytes: int
    start_s: float

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise BadParameter(f"direction must be one of {', '.join(DIRECTIONS)}, got {self.direction!r}")
        for name, got in (
            ("client", self.client),
            ("sequence", self.sequence),
            ("payload_bytes", self.payload_bytes),
            ("start_s", self.start_s),
        ):
            if not (got >= 0 and math.isfinite(got)):
                raise BadParameter(f"{name} must be at least 0, got {got}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """What became of a transfer.

    `arrived` says of each packet, in the order of the payload, whether it came through in
    the end. `retransmissions` counts the tries beyond each packet's first. `airtime_s` is
    the time spent sending, waiting not included; `energy_j` is what the sender radiated.
    """

    arrived: NDArray[np.bool_]
    finish_s: float
    retransmissions: int
    airtime_s: float
    energy_j: float

    @property
    def packets(self) -> int:
        """How many packets the payload was cut into."""
        return self.arrived.size

    @property
    def is_complete(self) -> bool:
        """Whether every packet came through."""
        return bool(self.arrived.all())

    @property
    def loss_rate(self) -> float:
        """The share of packets that never came through; 0 where there were none."""
        return 1.0 - float(self.arrived.mean()) if self.arrived.size else 0.0


class Link(Protocol):
    """Decides about transfers. The same transfer always gets the same answer."""

    def transfer(self, transfer: Transfer) -> Delivery: ...
