"""Tokens of a packet that are lost one by one, against packets that are lost as a whole."""

from dataclasses import dataclass

import numpy as np

from channel.core.rng import stream
from channel.fidelity.multipath import FLAT, Multipath
from channel.waveform.header import Header
from channel.waveform.modulator import Modulator
from channel.waveform.receiver import Receiver

TOKENS, TOKEN_BYTES = 16, 392
"""Of a packet."""


@dataclass(frozen=True, kw_only=True)
class TokenPoint:
    """The share of lost tokens at one SNR, and that of packets with a lost token, which are lost as a whole
    where a packet has one checksum."""

    mcs: int
    snr_db: float
    packets: int
    token_loss: float
    packet_loss: float

    @property
    def ratio(self) -> float:
        """How many times as many tokens are lost packet by packet."""
        return self.packet_loss / self.token_loss


def measured_tokens(
    mcs: int, snr_db: float, *, packets: int, channel: Multipath = FLAT, seed: int = 0
) -> TokenPoint:
    """Sends packets of TOKENS tokens of TOKEN_BYTES through modulator, channel and receiver."""
    modulator, receiver = Modulator(), Receiver()
    arrived_PT = np.zeros((packets, TOKENS), dtype=np.bool_)
    for index in range(packets):
        rng = stream(seed, "fidelity", "tokens", channel.name, mcs, round(100 * snr_db), index)
        token_TN = rng.integers(0, 256, (TOKENS, TOKEN_BYTES), dtype=np.uint8)
        samples = modulator.unit_packet(Header(sequence=index), token_TN, mcs=mcs)
        for received in receiver.push(channel.heard(samples, snr_db, modulator.numerology, rng)):
            if received.units_UN is not None and received.header.sequence == index:
                arrived_PT[index] = (received.units_UN == token_TN).all(axis=1)
    return TokenPoint(
        mcs=mcs,
        snr_db=snr_db,
        packets=packets,
        token_loss=float(1.0 - arrived_PT.mean()),
        packet_loss=float(1.0 - arrived_PT.all(axis=1).mean()),
    )
