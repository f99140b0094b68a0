"""Packetisation of a payload, and the rows that remain readable after packet loss."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter
from channel.core.link import Transfer


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
