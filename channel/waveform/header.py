"""The header block of a packet: the format of its payload, and twelve bytes for the link above."""

import binascii
import struct
from dataclasses import astuple, dataclass
from typing import NamedTuple

from channel.core.errors import BadParameter

VERSION = 1
HEADER_BYTES = 18
"""Four of format, twelve of header, two of checksum."""

MOST_BYTES = 16_383
MOST_UNITS = 1_023

_CRC_START = 0xFFFF
"""With 0, a block of zeros, which is what the decoder makes of silence, would have a right checksum."""
_LINK = struct.Struct(">BBBBHHI")
_LIMITS = {
    "kind": 0xFF,
    "source": 0xFF,
    "target": 0xFF,
    "flags": 0xFF,
    "sequence": 0xFFFF,
    "next_expected": 0xFFFF,
    "bitmap": 0xFFFFFFFF,
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """What the link above the modem says with each packet; the modem only carries it.

    `kind`, `source`, `target` and `flags` have 8 bits, `sequence` and `next_expected` 16 and `bitmap` 32.
    Raises BadParameter for a value that does not fit.
    """

    kind: int = 0
    source: int = 0
    target: int = 0
    flags: int = 0
    sequence: int = 0
    next_expected: int = 0
    bitmap: int = 0

    def __post_init__(self) -> None:
        for name, limit in _LIMITS.items():
            got = getattr(self, name)
            if not 0 <= got <= limit:
                raise BadParameter(f"{name} must lie in [0, {limit}], got {got}")


class PayloadFormat(NamedTuple):
    """What a receiver must know of a payload before it can decode it.

    `units` of `size` bytes each, or for 0 units a payload of `size` bytes with a checksum over all of it.
    """

    mcs: int
    units: int
    size: int


def pack(form: PayloadFormat, header: Header) -> bytes:
    """The header block of HEADER_BYTES bytes, checksum (CRC-16/CCITT-FALSE) included.

    Its first byte is the version (3 bits) and the MCS (5), then come units (10 bits) and size (14 bits).
    """
    first = (VERSION << 29) | (form.mcs << 24) | (form.units << 14) | form.size
    block = first.to_bytes(4, "big") + _LINK.pack(*astuple(header))
    return block + binascii.crc_hqx(block, _CRC_START).to_bytes(2, "big")


def has_checksum(block: bytes) -> bool:
    """Whether the checksum of a header block holds."""
    return binascii.crc_hqx(block, _CRC_START) == 0


def unpack(block: bytes) -> tuple[PayloadFormat, Header] | None:
    """The inverse of `pack` for a block whose checksum holds; None for another version."""
    first = int.from_bytes(block[:4], "big")
    if first >> 29 != VERSION:
        return None
    fields = dict(zip(_LIMITS, _LINK.unpack(block[4:16]), strict=True))
    return PayloadFormat((first >> 24) & 0x1F, (first >> 14) & 0x3FF, first & 0x3FFF), Header(**fields)
