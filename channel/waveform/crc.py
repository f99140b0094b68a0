"""The checksum of code blocks: CRC24B of 3GPP TS 38.212 (V16) clause 5.1, but with another start.

The register starts with ones: with zeros, as in the standard, a block of zeros, which is what the decoder
makes of silence, would have a right checksum.
"""

import numpy as np
from numpy.typing import NDArray

from channel.coding.compiled import compiled

_POLYNOMIAL = 0x800063
"""D^24 + D^23 + D^6 + D^5 + D + 1 without its first term."""


def _table() -> NDArray[np.uint32]:
    """The remainder for each value of a byte."""
    rest = np.arange(256, dtype=np.int64) << 16
    for _ in range(8):
        rest = np.where(rest & 0x800000, (rest << 1) ^ _POLYNOMIAL, rest << 1) & 0xFFFFFF
    return rest.astype(np.uint32)


_REMAINDERS = _table()


def crc24(bytes_BN: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The remainder (B,) of each row of bytes; 0 for a row that ends in its own checksum."""
    return _crc24(bytes_BN, _REMAINDERS)


def with_crc24(bytes_BN: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every row followed by its checksum: (B, N + 3)."""
    rest_B = crc24(bytes_BN)
    tail_B3 = np.stack([rest_B >> 16, rest_B >> 8, rest_B], axis=1).astype(np.uint8)
    return np.concatenate([bytes_BN, tail_B3], axis=1)


@compiled
def _crc24(bytes_BN: NDArray[np.uint8], remainders: NDArray[np.uint32]) -> NDArray[np.uint32]:
    rest_B = np.zeros(bytes_BN.shape[0], dtype=np.uint32)
    for row in range(bytes_BN.shape[0]):
        rest = np.uint32(0xFFFFFF)
        for byte in bytes_BN[row]:
            rest = ((rest << np.uint32(8)) & np.uint32(0xFFFFFF)) ^ remainders[(rest >> np.uint32(16)) ^ byte]
        rest_B[row] = rest
    return rest_B
