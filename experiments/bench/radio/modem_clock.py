"""Implementation loss and CPU time of the packet modem. Imports numba, and no large package besides."""

import time

import numpy as np

from channel.coding.kernels import decode_blocks
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from channel.fidelity.comparison import compared, law_at_db
from channel.fidelity.faded_packets import faded
from channel.fidelity.fading import walking
from channel.fidelity.multipath import FLAT
from channel.fidelity.packets import PACKET_BYTES, sent
from channel.fidelity.tokens import measured_tokens
from channel.phy.receivers import MODEM, implementation_loss_db
from channel.waveform.header import Header, PayloadFormat
from channel.waveform.layout import layout_of
from channel.waveform.mapping import least_amplitude, max_log_ratios
from channel.waveform.modulator import Modulator
from channel.waveform.numerology import SMALLEST
from channel.waveform.receiver import Receiver
from channel.waveform.reception import ITERATIONS
from channel.waveform.scrambling import scrambling_signs
from channel.waveform.symbols import payload_points
from experiments.bench.fresh import Hand

_BATCH = 50
_TOKENS_AT = (16, 8.75)
"""The scheme, and the SNR in dB at which about one token in ten is lost."""


def measure(
    hand: Hand,
    schemes: tuple[int, ...],
    packets: int,
    faded_packets: int,
    timed: tuple[int, ...],
    sweeps: int,
) -> None:
    """Sends losses and differences in decibels by scheme, rows of packets in fading, losses of tokens, then
    CPU seconds by scheme."""
    rows = [compared(mcs, packets=packets, seed=1, progress=lambda point: None)[0] for mcs in schemes]
    hand(([row.loss_db for row in rows], [row.difference_db for row in rows]))
    hand([faded(case, packets=faded_packets, seed=1, progress=lambda done: None) for case in walking()])
    hand(measured_tokens(*_TOKENS_AT, packets=packets, seed=1))
    hand({mcs: tuple(zip(*[_cpu_s(mcs) for _ in range(sweeps)], strict=True)) for mcs in timed})


def _cpu_s(mcs: int) -> tuple[float, float, float]:
    """CPU seconds per packet to send, to receive, and to decode its code blocks alone."""
    modulator, receiver = Modulator(), Receiver()
    snr_db = law_at_db(mcs) + implementation_loss_db(MODEM)
    heard = [
        sent(mcs, snr_db, index, channel=FLAT, seed=2, modulator=modulator)[1] for index in range(_BATCH)
    ]
    began_s = time.process_time()
    for _ in range(_BATCH):
        modulator.packet(Header(), b"x" * PACKET_BYTES, mcs=mcs)
    sent_s = time.process_time()
    for samples in heard:
        receiver.push(samples)
    received_s = time.process_time()
    return (sent_s - began_s) / _BATCH, (received_s - sent_s) / _BATCH, _decoding_s(mcs)


def _decoding_s(mcs: int) -> float:
    """CPU seconds to decode the blocks of a packet at the law's SNR of 10 % packet errors."""
    layout = layout_of(PayloadFormat(mcs, 0, PACKET_BYTES), SMALLEST)
    order, code, noise_power = layout.modulation_order, layout.code, 1.0 / db_to_ratio(law_at_db(mcs))
    spent_s = 0.0
    for index in range(_BATCH):
        rng = stream(3, "decoding", mcs, index)
        units = rng.integers(0, 256, (1, layout.unit_bytes), dtype=np.uint8)
        points = payload_points(layout, units, SMALLEST).ravel()
        noise = rng.standard_normal((2, points.size)) * np.sqrt(noise_power / 2.0)
        weight = np.full(points.size, 1.0 / noise_power, dtype=np.float32)
        signs = scrambling_signs(points.size * order)
        heard = (points + noise[0] + 1j * noise[1]).astype(np.complex64)
        ratios = max_log_ratios(heard, weight, signs, order, least_amplitude(order))
        blocks = ratios[: layout.blocks * code.sent_E.size].reshape(layout.blocks, -1)
        began_s = time.process_time()
        decode_blocks(code.graph, code.sent_E, code.bits, blocks, ITERATIONS)
        spent_s += time.process_time() - began_s
    return spent_s / _BATCH
