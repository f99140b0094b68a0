"""The seam between what is sent and what the air does to it.

A link is asked about one transfer at a time, in the sender's own time, and answers
which packets arrived and what they cost. It never sees the bytes themselves.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter

DIRECTIONS = ("up", "down")
"""From the client to the server, and back."""

RECOVERIES = ("acknowledged", "none")
"""What is lost is sent again until it is there or the link gives up, or not at all."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One message that wants to cross.

    `sequence` counts this client's messages in this direction, so that the transfer has
    a name of its own and its chances do not depend on when anyone else sends.

    With a `recovery` of "none" only its first `reliable_bytes` are sent again where they are
    lost. The rest is rows of `unit_bytes` each, of which a packet holds whole ones, or, where
    a row is larger than a packet, a row has packets to itself; see `channel.core.packets`.
    With `is_traced` its delivery tells every try.
    """

    client: int
    direction: str
    sequence: int
    payload_bytes: int
    start_s: float
    recovery: str = "acknowledged"
    reliable_bytes: int = 0
    unit_bytes: int = 1
    is_traced: bool = False

    def __post_init__(self) -> None:
        if self.direction not in DIRECTIONS:
            raise BadParameter(f"direction must be one of {', '.join(DIRECTIONS)}, got {self.direction!r}")
        for name, got in (
            ("client", self.client),
            ("sequence", self.sequence),
            ("payload_bytes", self.payload_bytes),
            ("start_s", self.start_s),
            ("reliable_bytes", self.reliable_bytes),
        ):
            if not (got >= 0 and math.isfinite(got)):
                raise BadParameter(f"{name} must be at least 0, got {got}")
        if self.recovery not in RECOVERIES:
            raise BadParameter(f"recovery must be one of {', '.join(RECOVERIES)}, got {self.recovery!r}")
        rows_bytes = self.payload_bytes - self.reliable_bytes
        if self.unit_bytes < 1 or rows_bytes < 0 or rows_bytes % self.unit_bytes:
            raise BadParameter(
                f"payload_bytes beyond reliable_bytes must be whole units of at least 1 byte, got "
                f"{self.payload_bytes} - {self.reliable_bytes} and units of {self.unit_bytes}"
            )


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try: a transport block of a cell, or a round of packets on a simpler link.

    `sent_bits` of the transfer were in it, its last one had left at `end_s`, and `came_bits` of them came: a
    block comes whole or not at all. `scheme` is its row of the MCS table and `sinr_db` the effective SINR of
    this try by itself; None where the link has no such thing.
    """

    end_s: float
    sent_bits: float
    came_bits: float
    scheme: int | None = None
    sinr_db: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """What became of a transfer.

    `arrived` says of each packet, in the order of the payload, whether it came through in
    the end. `retransmissions` counts the tries beyond each packet's first. `airtime_s` is
    the time spent sending, waiting not included; `energy_j` is what it took: each
    link says of whom, and what of it. `trace` holds every try in the order of their ends,
    and is empty where the transfer did not ask for it.
    """

    arrived: NDArray[np.bool_]
    finish_s: float
    retransmissions: int
    airtime_s: float
    energy_j: float
    trace: tuple[Attempt, ...] = ()

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
