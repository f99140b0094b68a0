import numpy as np
import pytest

from channel.core.rng import stream
from channel.waveform import phase
from channel.waveform.channel_estimate import ChannelEstimate
from channel.waveform.numerology import SMALLEST
from channel.waveform.preamble import Preamble
from channel.waveform.synchronisation import Synchroniser


def test_a_line_of_phases_is_found():
    time = np.array([0.0, 0.8, 1.8, 2.8, 3.8, 4.8])
    true = 0.7 + 0.21 * time
    sums = (3.0 * np.exp(1j * true)).astype(np.complex64)
    assert phase.line(sums, time, phase.turns(time)) == pytest.approx(true, abs=0.02)


@pytest.mark.parametrize("symbols", [1, 3, 8, 9, 200])
def test_phases_of_consecutive_symbols_are_followed_past_whole_turns(symbols):
    rng = stream(0, "phases", symbols)
    true = 0.3 - 0.12 * np.arange(symbols)
    noise = rng.standard_normal((2, symbols)) * 0.3
    sums = (4.0 * np.exp(1j * true) + noise[0] + 1j * noise[1]).astype(np.complex64)
    error = np.angle(np.exp(1j * (phase.tracked(sums) - true)))
    assert error.size == symbols
    assert np.sqrt(np.mean(error**2)) < 0.12


def test_the_projection_keeps_channels_within_the_prefix_and_16_of_52_parts_of_noise():
    projector = Synchroniser(Preamble(SMALLEST)).projector_KK
    carrier = SMALLEST.carrier_K
    inside = np.exp(-2j * np.pi * carrier * 9.4 / 64)
    outside = np.exp(-2j * np.pi * carrier * 30 / 64)
    assert np.linalg.norm(projector @ inside - inside) ** 2 < 1e-3 * 52
    assert np.linalg.norm(projector @ outside) ** 2 < 0.05 * 52
    rng = stream(0, "projection")
    noise = (rng.standard_normal((2, 52, 400)) / np.sqrt(2)).astype(np.float32)
    kept = projector @ (noise[0] + 1j * noise[1])
    assert np.mean(np.abs(kept) ** 2) == pytest.approx(16 / 52, abs=0.02)


def test_signal_and_noise_are_estimated_without_bias():
    rng, projector = stream(0, "noise"), Synchroniser(Preamble(SMALLEST)).projector_KK
    found = []
    for _ in range(50):
        noise = rng.standard_normal((2, 8, 52)) * np.sqrt(0.1 / 2)
        known = (2.0 + noise[0] + 1j * noise[1]).astype(np.complex64)
        found.append(ChannelEstimate.of(known, projector, SMALLEST))
    assert np.mean([estimate.noise for estimate in found]) == pytest.approx(0.1, rel=0.02)
    assert np.mean([estimate.signal for estimate in found]) == pytest.approx(4.0, rel=0.01)
