"""Packets sent over a static channel, and the SNR at which one in ten is lost."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np

from channel.core.rng import stream
from channel.core.special_functions import gaussian_tail_inverse
from channel.fidelity.multipath import Multipath
from channel.waveform.header import Header, PayloadFormat
from channel.waveform.layout import layout_of
from channel.waveform.modulator import Modulator
from channel.waveform.numerology import SMALLEST, Numerology, Samples
from channel.waveform.received import Received
from channel.waveform.receiver import Receiver

PACKET_BYTES = 1400
TARGET = 0.1
"""The packet error rate at which receivers are compared."""
_STEP_DB = 0.1


@dataclass(frozen=True, kw_only=True)
class PacketPoint:
    """The `lost` ones of `packets` at one SNR, and `unheard` ones among them: without a right header."""

    mcs: int
    snr_db: float
    packets: int
    lost: int
    unheard: int

    @property
    def error_rate(self) -> float:
        """The packet error rate."""
        return self.lost / self.packets


@dataclass(frozen=True)
class Measured:
    """The points around the SNR `at_db` of a packet error rate of TARGET."""

    at_db: float
    points: tuple[PacketPoint, ...]

    @classmethod
    def of(cls, start_db: float, measure: Callable[[float], PacketPoint]) -> Self:
        """Measures from `start_db` in steps of 0.1 dB until the error rate has crossed TARGET.

        Between the last two points the rate is interpolated in Q^-1, without a rate of exactly 0 or 1.
        """
        points: dict[int, PacketPoint] = {}

        def rate(step: int) -> float:
            if step not in points:
                points[step] = measure(round(step * _STEP_DB, 2))
            return points[step].error_rate

        high = round(start_db / _STEP_DB)
        while rate(high) <= TARGET:
            high -= 1
        while rate(high) > TARGET:
            high += 1
        least = 0.5 / points[high].packets
        rates = np.clip([rate(high - 1), rate(high), TARGET], least, 1.0 - least)
        left, right, wanted = gaussian_tail_inverse(rates).tolist()
        at_db = _STEP_DB * (high - 1 + (wanted - left) / (right - left))
        return cls(at_db, tuple(points[step] for step in sorted(points)))


def sent(
    mcs: int, snr_db: float, index: int, *, channel: Multipath, seed: int, modulator: Modulator
) -> tuple[bytes, Samples]:
    """The payload of packet `index` at this SNR, and what a receiver hears of it; each has its own stream."""
    rng = stream(seed, "fidelity", channel.name, mcs, round(100 * snr_db), index)
    payload = rng.bytes(PACKET_BYTES)
    samples = modulator.packet(Header(sequence=index), payload, mcs=mcs)
    return payload, channel.heard(samples, snr_db, modulator.numerology, rng)


def measured_point(
    mcs: int,
    snr_db: float,
    *,
    channel: Multipath,
    packets: int,
    seed: int = 0,
    numerology: Numerology = SMALLEST,
) -> PacketPoint:
    """Sends packets of PACKET_BYTES through modulator, channel and receiver."""
    modulator, receiver = Modulator(numerology), Receiver(numerology)
    lost = unheard = 0
    for index in range(packets):
        payload, heard = sent(mcs, snr_db, index, channel=channel, seed=seed, modulator=modulator)
        found: list[Received] = receiver.push(heard)
        lost += payload not in [packet.payload for packet in found]
        unheard += index not in [packet.header.sequence for packet in found]
    return PacketPoint(mcs=mcs, snr_db=snr_db, packets=packets, lost=lost, unheard=unheard)


def code_blocks(mcs: int, numerology: Numerology = SMALLEST) -> tuple[int, int]:
    """The number of code blocks of a packet of PACKET_BYTES, and their bits."""
    layout = layout_of(PayloadFormat(mcs, 0, PACKET_BYTES), numerology)
    return layout.blocks, layout.code.bits
