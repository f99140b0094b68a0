"""How the bytes of a payload become code blocks, and the code blocks OFDM symbols."""

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from channel.coding.base_graph import MOST_BITS, base_graph_number
from channel.coding.code import Code
from channel.core.errors import BadParameter
from channel.phy.mcs import mcs_table
from channel.waveform.header import HEADER_BYTES, MOST_BYTES, MOST_UNITS, PayloadFormat
from channel.waveform.numerology import Numerology

MCS_TABLE = mcs_table("64qam")
"""Table 5.1.3.1-1 of TS 38.214, whose rows have a block error law (`channel.phy.block_error`)."""
LEAST_MCS = 6
"""Below, headers are lost and not only payloads: a quarter of 10 % packet errors at MCS 5, most at MCS 4."""
MOST_PACKET_BYTES = 65_535

_CRC_BYTES, _CHECKSUM_BYTES = 3, 4
_LONG_SYMBOLS = 10
"""A code block of that many OFDM symbols meets every subcarrier about equally often wherever it begins."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """`units` of `unit_bytes`, each in `blocks_per_unit` code blocks; the blocks fill `symbols` OFDM symbols.

    A payload that is not made of units is one unit, which ends in a checksum of 4 bytes over all of it. All
    blocks have the same length, for which the last one of a unit may end in zeros, and a checksum of 3 bytes.
    """

    modulation_order: int
    code_rate: float
    units: int
    unit_bytes: int
    blocks_per_unit: int
    symbols: int
    elements: int

    @classmethod
    def of(cls, form: PayloadFormat, numerology: Numerology) -> Self:
        """The layout of a payload.

        A code block shorter than ten OFDM symbols fills whole symbols, so that it meets every subcarrier
        equally often; longer ones follow each other directly, and fill the last symbol together. Raises
        BadParameter for an MCS that is not offered and a payload that is too long, or has empty units.
        """
        _require(form)
        order, rate = int(MCS_TABLE.modulation_order_I[form.mcs]), float(MCS_TABLE.code_rate_I[form.mcs])
        unit_bytes = form.size if form.units or not form.size else form.size + _CHECKSUM_BYTES
        units = form.units or int(form.size > 0)
        blocks = -(-unit_bytes // _most_block_bytes(rate))
        carriers = numerology.data_D.size
        elements = symbols = 0
        if units:
            bits = 8 * (-(-unit_bytes // blocks) + _CRC_BYTES)
            elements = max(1, round(bits / rate / order))
            if elements < _LONG_SYMBOLS * carriers:
                elements = -(-elements // carriers) * carriers
            symbols = -(-units * blocks * elements // carriers)
            elements = symbols * carriers // (units * blocks)
        return cls(
            modulation_order=order,
            code_rate=rate,
            units=units,
            unit_bytes=unit_bytes,
            blocks_per_unit=blocks,
            symbols=symbols,
            elements=elements,
        )

    @property
    def blocks(self) -> int:
        """The number of code blocks."""
        return self.units * self.blocks_per_unit

    @property
    def block_bytes(self) -> int:
        """The bytes of a code block without its checksum."""
        return -(-self.unit_bytes // self.blocks_per_unit)

    @cached_property
    def code(self) -> Code:
        """The code of the blocks."""
        return Code.of(
            modulation_order=self.modulation_order,
            code_rate=self.code_rate,
            bits=8 * (self.block_bytes + _CRC_BYTES),
            symbols=self.elements,
        )

    def split(self, units_UN: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The bytes (blocks, block_bytes) of the code blocks of these units."""
        spare = self.blocks_per_unit * self.block_bytes - self.unit_bytes
        filled = np.pad(units_UN, ((0, 0), (0, spare)))
        return filled.reshape(self.blocks, self.block_bytes)

    def join(self, bytes_BN: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The inverse of `split`."""
        return bytes_BN.reshape(self.units, -1)[:, : self.unit_bytes]


@lru_cache(maxsize=256)
def layout_of(form: PayloadFormat, numerology: Numerology) -> Layout:
    """`Layout.of`, with the layouts of the last formats kept."""
    return Layout.of(form, numerology)


@lru_cache
def header_code(numerology: Numerology) -> Code:
    """The code of the header block: QPSK of rate 1/4 or, to fill whole OFDM symbols, just below."""
    bits, carriers = 8 * HEADER_BYTES, numerology.data_D.size
    symbols = -(-2 * bits // carriers) * carriers
    return Code.of(modulation_order=2, code_rate=0.25, bits=bits, symbols=symbols)


def header_symbols(numerology: Numerology) -> int:
    """The OFDM symbols of the header block."""
    return header_code(numerology).sent_E.size // (2 * numerology.data_D.size)


def _require(form: PayloadFormat) -> None:
    if not LEAST_MCS <= form.mcs < MCS_TABLE.size:
        raise BadParameter(f"mcs must lie in [{LEAST_MCS}, {MCS_TABLE.size - 1}], got {form.mcs}")
    for name, got, most in (("units", form.units, MOST_UNITS), ("size", form.size, MOST_BYTES)):
        if not 0 <= got <= most:
            raise BadParameter(f"a packet's {name} must lie in [0, {most}], got {got}")
    if form.units and not form.size:
        raise BadParameter("units must have at least 1 byte each, got 0")
    if form.units * form.size > MOST_PACKET_BYTES:
        raise BadParameter(
            f"a packet must have at most {MOST_PACKET_BYTES} bytes, got {form.units * form.size}"
        )


def _most_block_bytes(code_rate: float) -> int:
    """The most bytes of a code block without its checksum."""
    return MOST_BITS[base_graph_number(MOST_BITS[1], code_rate)] // 8 - _CRC_BYTES
