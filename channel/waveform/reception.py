"""Decodes one packet, once its preamble is found: first the header block, then the payload."""

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from channel.coding.code import Code
from channel.coding.compiled import compiled
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
from channel.waveform.synchronisation import Synchroniser, Timing, turn_back, turning

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
        code, count = self._header_code, self._header_times.size - 2
        value_SK = self._symbols(samples, timing, count)
        turn_back(value_SK, self._phases(timing, 0, count))
        estimate = ChannelEstimate.of(timing.long_2K, projector_KK, numerology)
        known = timing.long_2K @ estimate.response_K.conj()
        sum_S = np.concatenate([known, self._pilots(value_SK, estimate, 0).sum(axis=1)])
        phase_S = phase.line(sum_S, self._header_times, self._header_turns)
        point_SD = estimate.equalised(value_SK, phase_S[2:], self._no_drift_K)
        block = _decoded(code, estimate.ratios(point_SD, 2), 1)[0]
        if not has_checksum(block.tobytes()):
            return None
        sent_SK = with_pilots(header_points(block, numerology), numerology)
        known_SK = _divided(timing.long_2K, value_SK, sent_SK)
        phase_S = phase.line(known_SK @ estimate.response_K.conj(), self._header_times, self._header_turns)
        turn_back(known_SK, phase_S)
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
        value_SK = self._symbols(samples, packet.timing, layout.symbols)
        turned_S = self._phases(packet.timing, count, layout.symbols, packet.first_phase, packet.slope)
        pilot_SP = self._pilots(value_SK, estimate, count)
        turn_back(pilot_SP, turned_S)
        moved_S = phase.tracked(np.concatenate([packet.header_sum_S, pilot_SP.sum(axis=1)]))[count:]
        turn_back(pilot_SP, moved_S)
        turned_S += moved_S
        response_P = estimate.response_K[self.numerology.pilot_P]
        since = count - self._header_middle
        difference = clock_difference(pilot_SP, response_P, estimate.noise, since, self._drift_P)
        point_SD = estimate.equalised(value_SK, turned_S, difference * self._drift_K, since)
        ratio_E = estimate.ratios(point_SD, layout.modulation_order)
        bytes_BN = _decoded(layout.code, ratio_E, layout.blocks)
        units_UN = layout.join(bytes_BN[:, : layout.block_bytes])
        is_whole_U = (crc24(bytes_BN) == 0).reshape(layout.units, -1).all(axis=1)
        if not is_whole_U.all():
            units_UN = np.where(is_whole_U[:, None], units_UN, np.uint8(0))
        return Payload(units_UN, is_whole_U, point_SD.ravel(), difference)

    @cached_property
    def _header_code(self) -> Code:
        return header_code(self.numerology)

    @cached_property
    def _header_middle(self) -> float:
        """The middle of what the channel is estimated from, in symbols from the first of the header."""
        return float(self._header_times.mean() - self._header_times[2])

    @cached_property
    def _no_drift_K(self) -> Array:
        return np.zeros(self.numerology.carrier_K.size)

    @cached_property
    def _drift_P(self) -> Array:
        return self._drift_K[self.numerology.pilot_P]

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

    def _symbols(self, samples: Samples, timing: Timing, count: int) -> Carriers:
        """The used subcarriers (count, K) of the symbols in `samples`, without the carrier offset in each."""
        numerology = self.numerology
        cut_SN = samples.reshape(count, -1)[:, numerology.prefix :]
        return numerology.demodulate(cut_SN * turning(-timing.offset, numerology.fft_size))

    def _phases(
        self, timing: Timing, first: int, count: int, phase: float = 0.0, slope: float = 0.0
    ) -> Array:
        """The phases (count,) in radians of the symbols from `first`: by the carrier offset, and a line."""
        numerology = self.numerology
        begin = timing.offset * (2 * numerology.fft_size + numerology.prefix) + phase
        step = timing.offset * numerology.symbol + slope
        phase_S: Array = begin + step * np.arange(first, first + count, dtype=np.float64)
        return phase_S

    def _pilots(self, value_SK: Carriers, estimate: ChannelEstimate, first: int) -> Carriers:
        """The pilots (S, P) of the symbols from `first`, times the conjugate of what is expected."""
        pilot_P = self.numerology.pilot_P
        sign_SP = pilot_signs(first + value_SK.shape[0], pilot_P.size)
        return _matched(value_SK, pilot_P, sign_SP, first, estimate.response_K)


@compiled
def _matched(
    value_SK: Carriers,
    pilot_P: NDArray[np.int64],
    sign_SP: NDArray[np.float32],
    first: int,
    response_K: Carriers,
) -> Carriers:
    pilot_SP = np.empty((value_SK.shape[0], pilot_P.size), dtype=np.complex64)
    for symbol in range(value_SK.shape[0]):
        for pilot in range(pilot_P.size):
            at = pilot_P[pilot]
            signed = value_SK[symbol, at] * sign_SP[first + symbol, pilot]
            pilot_SP[symbol, pilot] = signed * np.conj(response_K[at])
    return pilot_SP


@compiled
def _divided(long_2K: Carriers, value_SK: Carriers, sent_SK: Carriers) -> Carriers:
    """The long symbols, and behind them the symbols of a header divided by what was sent, of magnitude 1."""
    known_SK = np.empty((2 + value_SK.shape[0], value_SK.shape[1]), dtype=np.complex64)
    known_SK[:2] = long_2K
    for symbol in range(value_SK.shape[0]):
        for used in range(value_SK.shape[1]):
            known_SK[2 + symbol, used] = value_SK[symbol, used] * np.conj(sent_SK[symbol, used])
    return known_SK


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
