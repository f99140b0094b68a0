"""CPU time of the IQ channel, alone and as a server; imports no large package but `channel`."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.fft  # type: ignore[import-untyped]

from channel.core.rng import stream
from channel.iq.channel import IqChannel
from channel.iq.delay_filters import Samples
from channel.iq.from_scenario import iq_channel_of
from channel.iq.noise import WhiteNoise
from channel.iq.ports import Air, PortSettings
from channel.scenario.load import changed, load

RATE_HZ = 1.92e6
_BLOCKS = 400


def channel_of(name: str, nodes: int) -> IqChannel:
    """The IQ channel of the first users of a scenario."""
    return iq_channel_of(changed(load(name), {"place": {"users": nodes - 1}}), rate_hz=RATE_HZ)


def block_costs(hand: Callable[[Any], None], name: str, nodes: int, sweeps: int) -> None:
    """Sends (step, transforms and noise) CPU seconds per block, one pair a sweep, after a warm-up sweep."""
    channel = channel_of(name, nodes)
    parts = stream(0, "bench", "air").standard_normal((nodes, 2 * channel.block)) / 4.0
    sent_NB = parts.astype(np.float32).view(np.complex64)
    pairs = [(_spent_s(lambda: channel.step(sent_NB)), _floor_s(sent_NB)) for _ in range(sweeps + 1)]
    hand(pairs[1:])


def _floor_s(sent_NB: Samples) -> float:
    """What no such channel can do without: a transform each way per node, and its noise."""
    nodes, block = sent_NB.shape
    frame_NF = np.zeros((nodes, scipy.fft.next_fast_len(block + 128)), dtype=np.complex64)
    noises, position = [WhiteNoise(0, "bench", node) for node in range(nodes)], 0

    def floor() -> None:
        nonlocal position
        scipy.fft.ifft(scipy.fft.fft(frame_NF, axis=-1), axis=-1)
        for noise in noises:
            noise.samples(position, block)
        position += block

    return _spent_s(floor)


def _spent_s(work: Callable[[], Any]) -> float:
    begin_s = time.process_time()
    for _ in range(_BLOCKS):
        work()
    return (time.process_time() - begin_s) / _BLOCKS


def served_costs(hand: Callable[[Any], None], name: str, nodes: int, port: int, seconds: float) -> None:
    """Serves `seconds` of samples at that port; sends that it is ready, then CPU s per s of samples."""
    settings = PortSettings(port=port, is_real_time=False, timeout_s=60.0)
    with Air(channel_of(name, nodes), settings, tell=lambda _: None) as air:
        hand("ready")
        begin_s = time.process_time()
        report = air.run(seconds=seconds)
        hand((time.process_time() - begin_s) / report.seconds)
