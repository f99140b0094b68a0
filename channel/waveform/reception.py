"""Decodes one packet, once its preamble is found: first the header block, then the payload."""

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from channel.coding.code import Code
from channel.coding.kernels import decode_blocks
from channel.core.arrays import Array
from channel.waveform import phase
from channel.waveform.channel_estimate import Carriers, ChannelEstimate
from channel.waveform.crc import crc24
from channel.waveform.drift import clock_difference
from channel.waveform.header import has_checksum
from channel.waveform.layout import Layout, header_code, header_symbols
from channel.waveform.mapping import Points
from channel.waveform.numerology import Numerology, Samples
from channel.waveform.scrambling import pilot_signs
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
    first_phase: float
    """The phase of the first symbol of the header in radians, beside the carrier offset of `timing`."""
    slope: float
    """What is left of that offset, in radians per symbol."""
    header_sum_S: phase.Sums
    points: Points


class Payload(NamedTuple):
    """A decoded payload, as one unit if it is not made of units. Without any, `points` are the header's."""

    units_UN: NDArray[np.uint8]
    """With zeros instead of units that have errors."""
    is_whole_U: NDArray[np.bool_]
    points: Points
    clock_difference: float


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
        value_SK, turned_S = self._symbols(samples, timing, 0, count)
        value_SK *= np.exp(-1j * turned_S).astype(np.complex64)[:, None]
        estimate = ChannelEstimate.of(timing.long_2K, projector_KK, numerology)
        known = timing.long_2K @ estimate.response_K.conj()
        sum_S = np.concatenate([known, self._pilots(value_SK, estimate, 0).sum(axis=1)])
        phase_S = phase.line(sum_S, self._header_times, self._header_turns)
        point_SD = estimate.equalised(value_SK, phase_S[2:])
        block = _decoded(header_code(numerology), estimate.ratios(point_SD, 2), 1)[0]
        if not has_checksum(block.tobytes()):
            return None
        sent_SK = with_pilots(header_points(block, numerology), numerology)
        known_SK = np.concatenate([timing.long_2K, value_SK * sent_SK.conj()])
        phase_S = phase.line(known_SK @ estimate.response_K.conj(), self._header_times, self._header_turns)
        known_SK *= np.exp(-1j * phase_S).astype(np.complex64)[:, None]
        estimate = ChannelEstimate.of(known_SK, projector_KK, numerology)
        return OpenPacket(
            timing=timing,
            block=block.tobytes(),
            estimate=estimate,
            first_phase=float(phase_S[2]),
            slope=float(phase_S[3] - phase_S[2]),
            header_sum_S=known_SK[2:] @ estimate.response_K.conj(),
            points=point_SD.ravel(),
        )

    def payload(self, samples: Samples, packet: OpenPacket, layout: Layout) -> Payload:
        """The payload from the samples of its symbols."""
        estimate, count = packet.estimate, packet.header_sum_S.size
        if not layout.symbols:
            return Payload(np.empty((0, 0), dtype=np.uint8), np.empty(0, dtype=np.bool_), packet.points, 0.0)
        value_SK, turned_S = self._symbols(samples, packet.timing, count, layout.symbols)
        turned_S += packet.first_phase + packet.slope * np.arange(count, count + layout.symbols)
        pilot_SP = self._pilots(value_SK, estimate, count)
        sum_S = pilot_SP.sum(axis=1) * np.exp(-1j * turned_S)
        turned_S += phase.tracked(np.concatenate([packet.header_sum_S, sum_S]))[count:]
        pilot_SP *= np.exp(-1j * turned_S).astype(np.complex64)[:, None]
        since_S, turn_K = self._since_header(count, layout.symbols), self._drift_K
        pilot_P = self.numerology.pilot_P
        power_P = np.abs(estimate.response_K[pilot_P]).astype(np.float64) ** 2
        difference = clock_difference(pilot_SP, power_P, estimate.noise, since_S, turn_K[pilot_P])
        turn_K = difference * turn_K
        point_SD = estimate.equalised(value_SK, turned_S, (since_S[0] * turn_K, turn_K))
        ratio_E = estimate.ratios(point_SD, layout.modulation_order)
        bytes_BN = _decoded(layout.code, ratio_E, layout.blocks)
        units_UN = layout.join(bytes_BN[:, : layout.block_bytes])
        is_whole_U = (crc24(bytes_BN) == 0).reshape(layout.units, -1).all(axis=1)
        units_UN = np.where(is_whole_U[:, None], units_UN, np.uint8(0))
        return Payload(units_UN, is_whole_U, point_SD.ravel(), difference)

    def _since_header(self, first: int, count: int) -> Array:
        """The times (count,) in symbols from the middle of what the channel was estimated from."""
        middle = float(self._header_times.mean() - self._header_times[2])
        return np.arange(first, first + count, dtype=np.float64) - middle

    @cached_property
    def _drift_K(self) -> Array:
        """Radians in a symbol by which a difference of clocks of 1 turns the subcarriers."""
        numerology = self.numerology
        return 2.0 * np.pi * numerology.symbol / numerology.fft_size * numerology.carrier_K.astype(np.float64)

    @cached_property
    def _header_turns(self) -> NDArray[np.complex64]:
        return phase.turns(self._header_times)

    @cached_property
    def _header_times(self) -> Array:
        """The times, in symbols, of the two long symbols and those of the header, from the first long one."""
        size, symbol = self.numerology.fft_size, self.numerology.symbol
        after = (2 * size + self.numerology.prefix) / symbol + np.arange(header_symbols(self.numerology))
        return np.concatenate([[0.0, size / symbol], after])

    def _symbols(self, samples: Samples, timing: Timing, first: int, count: int) -> tuple[Carriers, Array]:
        """The used subcarriers (count, K) of the symbols from `first`, at which `samples` begin.

        With them their phases (count,) in radians by the carrier offset, which is removed within a symbol.
        """
        numerology = self.numerology
        cut_SN = samples.reshape(count, -1)[:, numerology.prefix :]
        value_SK = numerology.demodulate(cut_SN * turning(-timing.offset, numerology.fft_size))
        place_S = np.arange(first, first + count, dtype=np.float64) * numerology.symbol
        turned_S: Array = timing.offset * (place_S + 2 * numerology.fft_size + numerology.prefix)
        return value_SK, turned_S

    def _pilots(self, value_SK: Carriers, estimate: ChannelEstimate, first: int) -> Carriers:
        """The pilots (S, P) of the symbols from `first`, times the conjugate of what is expected."""
        pilot_P = self.numerology.pilot_P
        sign_SP = pilot_signs(first + value_SK.shape[0], pilot_P.size)[first:]
        pilot_SP: Carriers = value_SK[:, pilot_P] * sign_SP
        return pilot_SP * estimate.response_K[pilot_P].conj()


def checked(body: bytes) -> bytes | None:
    """A payload without the checksum of 4 bytes at its end; None if it does not hold. Nothing for nothing."""
    if not body:
        return body
    payload, checksum = body[:-4], body[-4:]
    return payload if zlib.crc32(payload).to_bytes(4, "big") == checksum else None


def _decoded(code: Code, ratio_E: NDArray[np.float32], blocks: int) -> NDArray[np.uint8]:
    """The bytes (blocks, N) of code blocks."""
    ratio_BE = ratio_E[: blocks * code.sent_E.size].reshape(blocks, -1)
    found_BK = decode_blocks(code.graph, code.sent_E, code.bits, ratio_BE, ITERATIONS)
    return np.packbits(found_BK, axis=1)
