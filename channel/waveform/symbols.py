"""Header block and payload as points on the subcarriers of OFDM symbols."""

import numpy as np
from numpy.typing import NDArray

from channel.coding.code import Code
from channel.coding.kernels import encode_blocks
from channel.waveform.crc import with_crc24
from channel.waveform.layout import Layout, header_code
from channel.waveform.mapping import Points, mapped
from channel.waveform.numerology import Numerology
from channel.waveform.scrambling import pilot_signs, scrambling_bits


def header_points(block: NDArray[np.uint8], numerology: Numerology) -> Points:
    """The points (S, D) of the bytes of a header block."""
    sent = _encoded(header_code(numerology), block[None]).ravel()
    point_SD: Points = mapped(sent ^ scrambling_bits(sent.size), 2).reshape(-1, numerology.data_D.size)
    return point_SD


def payload_points(layout: Layout, units_UN: NDArray[np.uint8], numerology: Numerology) -> Points:
    """The points (S, D) of a payload; what its blocks leave free of the last symbol is pseudo-random."""
    sent = _encoded(layout.code, with_crc24(layout.split(units_UN))).ravel()
    bit_E = scrambling_bits(layout.symbols * numerology.data_D.size * layout.modulation_order).copy()
    bit_E[: sent.size] ^= sent
    point_SD: Points = mapped(bit_E, layout.modulation_order).reshape(layout.symbols, -1)
    return point_SD


def with_pilots(point_SD: Points, numerology: Numerology) -> Points:
    """The used subcarriers (S, K) of the symbols that follow the preamble."""
    value_SK = np.empty((point_SD.shape[0], numerology.carrier_K.size), dtype=np.complex64)
    value_SK[:, numerology.data_D] = point_SD
    value_SK[:, numerology.pilot_P] = pilot_signs(point_SD.shape[0], numerology.pilot_P.size)
    return value_SK


def _encoded(code: Code, bytes_BN: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The transmitted bits (B, E) of blocks of bytes."""
    return encode_blocks(code.graph, code.sent_E, np.unpackbits(bytes_BN, axis=1))
