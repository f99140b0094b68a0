"""Packets as samples."""

import zlib

import numpy as np
from numpy.typing import NDArray

from channel.core.errors import BadParameter
from channel.waveform.header import Header, PayloadFormat, pack
from channel.waveform.layout import header_symbols, layout_of
from channel.waveform.numerology import SMALLEST, Numerology, Samples
from channel.waveform.preamble import Preamble
from channel.waveform.symbols import header_points, payload_points, with_pilots


class Modulator:
    """Makes the samples of packets.

    A packet is the preamble, a header block in QPSK of rate 1/4 and the payload in a row of TS 38.214 table
    5.1.3.1-1. Its samples have mean power 1: 0 dBFS is the transmit power of the node.
    """

    def __init__(self, numerology: Numerology = SMALLEST) -> None:
        self.numerology = numerology
        self._preamble = Preamble(numerology)

    def packet(self, header: Header, payload: bytes = b"", *, mcs: int) -> Samples:
        """A packet (samples,) whose payload arrives whole or not at all; an empty one has a header only.

        Raises BadParameter for an MCS that is not offered, and a payload of more than 16,383 bytes.
        """
        form = PayloadFormat(mcs, 0, len(payload))
        body = payload + zlib.crc32(payload).to_bytes(4, "big") if payload else b""
        return self._samples(header, form, np.frombuffer(body, dtype=np.uint8).reshape(-1, max(1, len(body))))

    def unit_packet(self, header: Header, units_UN: NDArray[np.uint8], *, mcs: int) -> Samples:
        """A packet of U units of N bytes, each of which arrives or is lost by itself.

        A unit is one code block, or several equal ones if it is longer than one may be (1,053 bytes).
        Raises BadParameter for an MCS that is not offered, more than 1,023 units, or 65,535 bytes in all.
        """
        if units_UN.ndim != 2 or units_UN.dtype != np.uint8 or not units_UN.size:
            raise BadParameter(f"units must be bytes (U, N), got {units_UN.dtype} {units_UN.shape}")
        return self._samples(header, PayloadFormat(mcs, *units_UN.shape), units_UN)

    def length(self, form: PayloadFormat) -> int:
        """The samples of a packet of this format. Raises BadParameter as the two methods above."""
        symbols = header_symbols(self.numerology) + layout_of(form, self.numerology).symbols
        return self._preamble.length + symbols * self.numerology.symbol

    def _samples(self, header: Header, form: PayloadFormat, units_UN: NDArray[np.uint8]) -> Samples:
        layout = layout_of(form, self.numerology)
        block = np.frombuffer(pack(form, header), dtype=np.uint8)
        point_SD = [header_points(block, self.numerology)]
        if layout.symbols:
            point_SD.append(payload_points(layout, units_UN, self.numerology))
        body = self._symbols(np.concatenate(point_SD))
        return np.concatenate([self._preamble.samples, body])

    def _symbols(self, point_SD: NDArray[np.complex64]) -> Samples:
        """The OFDM symbols of these points, with pilots and prefixes: (S x symbol,)."""
        value_SK = with_pilots(point_SD, self.numerology)
        samples_SN = self.numerology.modulate(value_SK)
        return np.concatenate([samples_SN[:, -self.numerology.prefix :], samples_SN], axis=1).ravel()
