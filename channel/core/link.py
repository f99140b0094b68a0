"""The interface of a simulated link: a transfer goes in, a delivery comes out; and its packets.

A link decides one transfer at a time, in the sender's time: which packets arrived, when, and at what
cost in airtime and energy. It never sees the payload itself.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter

DIRECTIONS = ("up", "down")
"""Uplink, from the client to the server, and downlink."""

RECOVERIES = ("acknowledged", "none")
"""Lost packets are retransmitted until they arrive or the link gives up, or never."""


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One message to be sent over a link.

    `sequence` counts this client's messages in this direction. It names the random stream of the
    transfer, so its outcome does not depend on the timing of other clients.

    With a `recovery` of "none" only the first `reliable_bytes` are retransmitted when lost. The rest
    consists of rows of `unit_bytes`: a packet holds whole rows, or, if a row is larger than a packet,
    consecutive packets hold one row each time; see `packets_of`. With `is_traced` the
    delivery records every transmission attempt.
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
    """One transmission attempt: a transport block of a cell, or one ARQ round on a simpler link.

    It carried `sent_bits` of the transfer, the last of which left at `end_s`; `received_bits` of them were
    received. A block is received whole or not at all. `scheme` is the row of the MCS table and `sinr_db`
    the effective SINR of this attempt alone; both are None on links without modulation and coding.
    """

    end_s: float
    sent_bits: float
    received_bits: float
    scheme: int | None = None
    sinr_db: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """The outcome of a transfer.

    `arrived` (packets,) holds for each packet, in payload order, whether it was received in the end.
    `retransmissions` counts the attempts beyond each packet's first. `airtime_s` is the time spent
    transmitting, waiting excluded. `energy_j` is the energy of that; the link's docstring defines whose.
    `trace` holds the attempts in the order of their ends, and is empty unless the transfer `is_traced`.
    `rows` holds for each row behind the reliable part whether it arrived, if the link sends rows one by one;
    None if packets decide, as in `units_arrived`, or the reliable part did not arrive.
    """

    arrived: NDArray[np.bool_]
    finish_s: float
    retransmissions: int
    airtime_s: float
    energy_j: float
    trace: tuple[Attempt, ...] = ()
    rows: NDArray[np.bool_] | None = None

    @property
    def packets(self) -> int:
        """The number of packets of the payload."""
        return self.arrived.size

    @property
    def is_complete(self) -> bool:
        """Whether every packet was received."""
        return bool(self.arrived.all())

    @property
    def loss_rate(self) -> float:
        """The share of packets that were never received; 0 without packets."""
        return 1.0 - float(self.arrived.mean()) if self.arrived.size else 0.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Packets:
    """The size of each packet in payload order; the first `reliable` packets are retransmitted when lost."""

    sizes_bytes: NDArray[np.int64]
    reliable: int

    @property
    def is_reliable(self) -> NDArray[np.bool_]:
        """For each packet, whether it is retransmitted when lost."""
        return np.arange(self.sizes_bytes.size) < self.reliable


def packets_of(transfer: Transfer, mtu_bytes: int) -> Packets:
    """The packets of a transfer of at most `mtu_bytes` each.

    With recovery these are full packets and a shorter last one. Without, the reliable part comes first and
    the rows start a new packet: each packet holds as many whole rows as fit, or ceil(unit / mtu) packets
    hold one row. The payload has the same size either way, but may need more packets.
    """
    if transfer.recovery == "acknowledged":
        sizes = packet_sizes(transfer.payload_bytes, mtu_bytes)
        return Packets(sizes_bytes=sizes, reliable=sizes.size)
    ahead = packet_sizes(transfer.reliable_bytes, mtu_bytes)
    rest, unit = transfer.payload_bytes - transfer.reliable_bytes, transfer.unit_bytes
    if unit <= mtu_bytes:
        behind = packet_sizes(rest, mtu_bytes // unit * unit)
    else:
        behind = np.tile(packet_sizes(unit, mtu_bytes), rest // unit)
    return Packets(sizes_bytes=np.concatenate([ahead, behind]), reliable=ahead.size)


def units_arrived(arrived: NDArray[np.bool_], transfer: Transfer, mtu_bytes: int) -> NDArray[np.bool_]:
    """For each row after the reliable part, whether every packet that holds part of it arrived.

    Raises BadParameter unless `arrived` has one element per packet.
    """
    packets = packets_of(transfer, mtu_bytes)
    if arrived.size != packets.sizes_bytes.size:
        raise BadParameter(f"arrived must have {packets.sizes_bytes.size} packets, got {arrived.size}")
    units = (transfer.payload_bytes - transfer.reliable_bytes) // transfer.unit_bytes
    if transfer.recovery == "acknowledged":
        ends = np.cumsum(packets.sizes_bytes)
        starts = transfer.reliable_bytes + transfer.unit_bytes * np.arange(units, dtype=np.int64)
        first = np.searchsorted(ends, starts, side="right")
        last = np.searchsorted(ends, starts + transfer.unit_bytes, side="left")
        lost = np.concatenate([[0], np.cumsum(~arrived)])
        return np.asarray(lost[last + 1] == lost[first], dtype=np.bool_)
    behind = arrived[packets.reliable :]
    if transfer.unit_bytes <= mtu_bytes:
        return np.repeat(behind, mtu_bytes // transfer.unit_bytes)[:units]
    return np.asarray(behind.reshape(units, -1).all(axis=1)) if units else behind


def packet_sizes(payload_bytes: int, mtu_bytes: int) -> NDArray[np.int64]:
    """Packet sizes in bytes: full packets, then a shorter one for the remainder."""
    full, rest = divmod(payload_bytes, mtu_bytes)
    sizes = np.full(full + (rest > 0), mtu_bytes, dtype=np.int64)
    if rest:
        sizes[-1] = rest
    return sizes


class Link(Protocol):
    """Decides transfers deterministically: equal transfers get equal deliveries."""

    def transfer(self, transfer: Transfer) -> Delivery: ...
