"""Decodes one packet, once its preamble is found: first the header block, then the payload."""

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from channel.coding.code import Code
from channel.coding.kernels import decode_blocks
from channel.core.arrays import Array
from channel.waveform import phase
from channel.waveform.channel_estimate import Carriers, ChannelEstimate
from channel.waveform.crc import crc24
from channel.waveform.header import has_checksum
from channel.waveform.layout import Layout, header_code, header_symbols
from channel.waveform.mapping import Points
from channel.waveform.numerology import Numerology, Samples
from channel.waveform.scrambling import pilot_signs, scrambling_bits
from channel.waveform.symbols import header_points, with_pilots
from channel.waveform.synchronisation import Synchroniser, Timing, turning

ITERATIONS = 20
"""Of the decoder, as in the simulation of the block error law."""


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenPacket:
    """A packet with its header decoded: what the payload needs."""

    timing: Timing
    block: bytes
    estimate: ChannelEstimate
    header_sum_S: phase.Sums
    points: Points


@dataclass(frozen=True)
class Reception:
    """Decodes packets from their samples, which begin at the first symbol in question."""

    synchroniser: Synchroniser

    @cached_property
    def numerology(self) -> Numerology:
        """The numerology of the packets."""
        return self.synchroniser.numerology

    def symbol_position(self, timing: Timing, symbol: int) -> int:
        """The position where a symbol after the preamble begins, prefix included."""
        return timing.start + 2 * self.numerology.fft_size + symbol * self.numerology.symbol

    def header(self, samples: Samples, timing: Timing) -> OpenPacket | None:
        """The header block from the samples of its symbols; None if its checksum does not hold.

        Once it holds, the block is known like a preamble: channel and phase are estimated again with it.
        """
        numerology, projector_KK = self.numerology, self.synchroniser.projector_KK
        count = header_symbols(numerology)
        value_SK = self._carriers(samples, timing, 0, count)
        time_S = self._times(count)
        first = ChannelEstimate.of(timing.long_2K, time_S[:2], timing.long_2K.sum(axis=0), projector_KK)
        sums = np.concatenate(
            [timing.long_2K @ first.response_K.conj(), self._pilot_sums(value_SK, first, 0)]
        )
        start, slope = phase.line(sums, time_S)
        phase_S = start + slope * time_S[2:]
        point_SD = first.equalised(value_SK[:, numerology.data_D], phase_S, numerology.data_D)
        ratio_E = first.ratios(point_SD, numerology.data_D, 2)
        block = _decoded(header_code(numerology), ratio_E[None])[0]
        if not has_checksum(block.tobytes()):
            return None
        sent_SK = with_pilots(header_points(block, numerology), numerology)
        known_SK = np.concatenate([timing.long_2K, value_SK * sent_SK.conj()])
        estimate = ChannelEstimate.of(known_SK, time_S, first.response_K, projector_KK)
        return OpenPacket(
            timing=timing,
            block=block.tobytes(),
            estimate=estimate,
            header_sum_S=known_SK[2:] @ estimate.response_K.conj(),
            points=point_SD.ravel(),
        )

    def payload(
        self, samples: Samples, packet: OpenPacket, layout: Layout
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_], Points]:
        """The units (U, N) of a payload, which of them (U,) have no errors, and their points.

        Without a payload: no units, and the points of the header.
        """
        numerology, estimate = self.numerology, packet.estimate
        if not layout.symbols:
            return np.empty((0, 0), dtype=np.uint8), np.empty(0, dtype=np.bool_), packet.points
        count = packet.header_sum_S.size
        value_SK = self._carriers(samples, packet.timing, count, layout.symbols)
        pilot_sum_S = self._pilot_sums(value_SK, estimate, count)
        sum_S = np.concatenate([packet.header_sum_S, pilot_sum_S])
        steady = estimate.phase + estimate.slope * self._times(sum_S.size)[2:]
        phase_S = steady + phase.tracked(sum_S * np.exp(-1j * steady).astype(np.complex64))
        point_SD = estimate.equalised(value_SK[:, numerology.data_D], phase_S[count:], numerology.data_D)
        ratio_E = estimate.ratios(point_SD, numerology.data_D, layout.modulation_order)
        sent = layout.code.sent_E.size
        bytes_BN = _decoded(layout.code, ratio_E[: layout.blocks * sent].reshape(layout.blocks, sent))
        is_good_B = crc24(bytes_BN) == 0
        units_UN = layout.join(bytes_BN[:, : layout.block_bytes])
        is_whole_U = is_good_B.reshape(layout.units, -1).all(axis=1)
        return np.where(is_whole_U[:, None], units_UN, np.uint8(0)), is_whole_U, point_SD.ravel()

    def _times(self, symbols: int) -> Array:
        """The times, in symbols, of the two long symbols and those that follow, from the first long one."""
        size, symbol = self.numerology.fft_size, self.numerology.symbol
        after = (2 * size + self.numerology.prefix) / symbol + np.arange(symbols)
        return np.concatenate([[0.0, size / symbol], after])

    def _carriers(self, samples: Samples, timing: Timing, first: int, count: int) -> Carriers:
        """The used subcarriers (count, K) of the symbols from `first`, at which `samples` begin."""
        numerology = self.numerology
        cut_SN = samples[: count * numerology.symbol].reshape(count, -1)[:, numerology.prefix :]
        value_SK = numerology.demodulate(cut_SN * turning(-timing.offset, numerology.fft_size))
        place_S = self.symbol_position(timing, first) - timing.start + numerology.prefix
        turned_S = timing.offset * (place_S + numerology.symbol * np.arange(count))
        value_SK *= np.exp(-1j * turned_S).astype(np.complex64)[:, None]
        return value_SK

    def _pilot_sums(self, value_SK: Carriers, estimate: ChannelEstimate, first: int) -> phase.Sums:
        """The sums of `phase` over the pilots of the symbols from `first`."""
        pilot_P = self.numerology.pilot_P
        sign_SP = pilot_signs(first + value_SK.shape[0], pilot_P.size)[first:]
        pilot_SP: Carriers = value_SK[:, pilot_P] * sign_SP
        return pilot_SP @ estimate.response_K[pilot_P].conj()


def checked(body: bytes) -> bytes | None:
    """A payload without the checksum of 4 bytes at its end; None if it does not hold. Nothing for nothing."""
    if not body:
        return body
    payload, checksum = body[:-4], body[-4:]
    return payload if zlib.crc32(payload).to_bytes(4, "big") == checksum else None


def _decoded(code: Code, ratio_BE: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The bytes (B, N) of code blocks, unscrambled."""
    sign_E = 1.0 - 2.0 * scrambling_bits(ratio_BE.size).astype(np.float32)
    ratio_BE = ratio_BE * sign_E.reshape(ratio_BE.shape)
    found_BK = decode_blocks(code.graph, code.sent_E, code.bits, ratio_BE, ITERATIONS)
    return np.packbits(found_BK, axis=1)
