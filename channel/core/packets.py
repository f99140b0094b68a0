"""How a payload is cut into packets, and which of its rows have come when some of them are lost."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter
from channel.core.link import Transfer


@dataclass(frozen=True, kw_only=True, eq=False)
class Packets:
    """The bytes in each packet, in the order of the payload; the first `reliable` of them must arrive."""

    sizes_bytes: NDArray[np.int64]
    reliable: int

    @property
    def is_reliable(self) -> NDArray[np.bool_]:
        """Of each packet, whether it is sent again when it is lost."""
        return np.arange(self.sizes_bytes.size) < self.reliable


def packets_of(transfer: Transfer, mtu_bytes: int) -> Packets:
    """Full packets and a short one where everything is recovered, else the reliable part's and the rows'.

    The rows begin in a packet of their own: as many as fit go into each, or ceil(unit / mtu)
    packets are one row's. The payload has the same bytes either way, and at times more packets.
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
    """Of each row behind the reliable part, whether every packet that holds some of it has come."""
    packets = packets_of(transfer, mtu_bytes)
    if arrived.size != packets.sizes_bytes.size:
        raise BadParameter(f"arrived must tell of {packets.sizes_bytes.size} packets, got {arrived.size}")
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
    """The bytes in each packet: full ones, and a short one for what is left over."""
    full, rest = divmod(payload_bytes, mtu_bytes)
    sizes = np.full(full + (rest > 0), mtu_bytes, dtype=np.int64)
    if rest:
        sizes[-1] = rest
    return sizes
