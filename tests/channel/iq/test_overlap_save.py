"""The convolution against sums over samples, and against itself with the samples cut elsewhere."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.core.rng import stream
from channel.iq.delay_filters import HALF, delay_filters
from channel.iq.knots import PeriodicKnots, RegularKnots
from channel.iq.links import RecordedLinks
from channel.iq.overlap_save import OverlapFrame, OverlapSave, OverlapSegments
from channel.propagation.recorded_taps import NodeTaps

RATE_HZ = 1e6


def noise(count, nodes=2, seed=0):
    rng = stream(seed, "iq", "test")
    parts = rng.standard_normal((nodes, count, 2)) / math.sqrt(2.0)
    return parts.view(np.complex128)[..., 0].astype(np.complex64)


def limited(count, occupied, seed=0):
    """A periodic signal (count,) in this share of the band, as a function of its delay in samples."""
    rng = stream(seed, "iq", "band")
    cycles = np.fft.fftfreq(count)
    spectrum = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    spectrum[np.abs(cycles) > occupied / 2.0] = 0.0

    def delayed(delay):
        return np.fft.ifft(spectrum * np.exp(-2j * math.pi * cycles * delay)) * math.sqrt(count)

    return delayed


def air(taps, *, block=200, guard=64, ppm=(0.0, 0.0), knots=None, is_held=False):
    frame = OverlapFrame(block=block, guard=guard, drifts=any(ppm))
    links = RecordedLinks(taps=taps, scale_NN=np.ones((taps.nodes,) * 2), rate_hz=RATE_HZ)
    knots = knots or PeriodicKnots(time_s_T=taps.time_s_T, rate_hz=RATE_HZ)
    segments = OverlapSegments(links, knots, frame, is_held=is_held, rate_hz=RATE_HZ, ppm_N=np.asarray(ppm))
    return OverlapSave(taps.nodes, links.pairs, segments, frame), frame.reach


def two_nodes(delay_samples_L, gain_TL, time_s_T=(0.0, 1.0)):
    """Taps from node 0 to node 1 only."""
    times, taps = np.shape(gain_TL)
    gain = np.zeros((2, 2, times, taps), dtype=np.complex128)
    gain[0, 1] = gain_TL
    delay = np.broadcast_to(np.asarray(delay_samples_L, dtype=np.float64) / RATE_HZ, gain.shape)
    return NodeTaps(time_s_T=np.asarray(time_s_T), delay_s_NNTL=delay, gain_NNTL=gain)


def error_db(got, wanted):
    return 10.0 * math.log10(float((np.abs(got - wanted) ** 2).mean() / (np.abs(wanted) ** 2).mean()))


def test_whole_delays_are_the_direct_convolution():
    gain = np.asarray([0.8, 0.3j, -0.2 + 0.1j])
    convolve, late = air(two_nodes([0, 3, 64], [gain, gain]))
    sent_NB = noise(2000)
    arrived_NB = convolve.step(sent_NB)
    impulse = np.zeros(65, dtype=np.complex128)
    impulse[[0, 3, 64]] = gain
    wanted = np.convolve(sent_NB[0], impulse)[: 2000 - late]
    assert arrived_NB[1, late:] == pytest.approx(wanted, abs=3e-6)
    assert np.abs(arrived_NB[1, :late]).max() < 1e-6
    assert not arrived_NB[0].any()


@pytest.mark.parametrize("delay", [0.5, 7.37, 31.9, 63.99])
def test_any_delay_is_exact_to_72_db_in_80_percent_of_the_band(delay):
    convolve, late = air(two_nodes([delay], [[1.0], [1.0]]), block=400)
    signal = limited(8192, 0.8)
    arrived = convolve.step(np.stack([signal(0.0), np.zeros(8192)]).astype(np.complex64))[1]
    assert error_db(arrived[200:], signal(delay + late)[200:]) < -72.0


def test_a_filter_is_causal_and_ends_half_its_length_after_the_delay():
    (impulse,) = np.fft.ifft(delay_filters(np.asarray([10.25]), 256))
    assert np.abs(impulse[: 10 + 1]).max() < 1e-6
    assert np.abs(impulse[10 + 2 * HALF + 1 :]).max() < 1e-6
    assert impulse.sum() == pytest.approx(1.0, abs=1e-5)


def test_gains_are_linear_between_knots_and_periodic():
    convolve, late = air(two_nodes([2], [[1.0], [3.0j], [0.0]], time_s_T=(0.0, 1e-3, 1.5e-3)))
    ones_NB = np.ones((2, 4000), dtype=np.complex64)
    arrived = convolve.step(ones_NB)[1]
    at = np.asarray([0.0, 1e-3, 1.5e-3, 2.5e-3, 3e-3, 4e-3]) * RATE_HZ
    gain = np.interp(np.arange(4000), at, [1, 0, 1, 0, 1, 0]) + 3j * np.interp(
        np.arange(4000), at, [0, 1, 0, 1, 0, 1]
    )
    assert arrived[late + HALF + 2 :] == pytest.approx(gain[late + HALF + 2 :], abs=1e-5)


def test_held_gains_are_those_of_the_last_knot():
    knots = RegularKnots(step_s=1e-3, rate_hz=RATE_HZ)
    taps = two_nodes([0], [[1.0], [3.0j], [0.0]], time_s_T=(0.0, 1e-3, 2e-3))
    convolve, late = air(taps, knots=knots, is_held=True)
    arrived = convolve.step(np.ones((2, 3000), dtype=np.complex64))[1]
    assert arrived[late + HALF : 1000] == pytest.approx(np.ones(1000 - late - HALF), abs=1e-5)
    assert arrived[1000:2000] == pytest.approx(np.full(1000, 3.0j), abs=1e-5)
    assert arrived[2000:] == pytest.approx(np.ones(1000), abs=1e-5)


def test_linear_gains_have_the_error_of_the_formula():
    """(2 pi f_d D)^4 / 320 for waves from all directions, each linear between knots D apart."""
    doppler_hz, step_s = 500.0, 0.09 / 500.0
    rng = stream(0, "iq", "waves")
    cosine_W, phase_W = np.cos(2 * math.pi * rng.random(64)), 2 * math.pi * rng.random(64)

    def gain(time_s):
        angle = 2 * math.pi * doppler_hz * time_s[:, None] * cosine_W + phase_W
        return np.exp(1j * angle).sum(axis=-1) / 8.0

    time_s_T = np.arange(60) * step_s
    convolve, _ = air(two_nodes([0], gain(time_s_T)[:, None], time_s_T=time_s_T))
    count = round(time_s_T[-2] * RATE_HZ)
    arrived = convolve.step(np.ones((2, count), dtype=np.complex64))[1]
    wanted = gain(np.arange(count) / RATE_HZ)
    formula_db = 10 * math.log10((2 * math.pi * 0.09) ** 4 / 320.0)
    assert error_db(arrived[100:], wanted[100:]) == pytest.approx(formula_db, abs=1.0)


@settings(max_examples=10)
@given(cuts=st.lists(st.integers(1, 1499), max_size=6, unique=True))
def test_cuts_change_no_more_than_the_rounding_of_the_transform(cuts):
    taps = two_nodes([0.3, 5.7], [[1.0, 0.5], [0.2j, 1.0], [0.0, 0.0]], time_s_T=(0.0, 7e-4, 1.1e-3))
    sent_NB = noise(1500)
    whole_NB = air(taps)[0].step(sent_NB)
    convolve, _ = air(taps)
    pieces = [convolve.step(part) for part in np.split(sent_NB, sorted(cuts), axis=1)]
    assert np.concatenate(pieces, axis=1) == pytest.approx(whole_NB, abs=2e-6)


@settings(max_examples=10)
@given(blocks=st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_cuts_at_blocks_change_nothing(blocks):
    taps = two_nodes([0.3, 5.7], [[1.0, 0.5], [0.2j, 1.0], [0.0, 0.0]], time_s_T=(0.0, 8e-4, 1.2e-3))
    ends = 200 * np.cumsum(blocks)
    sent_NB = noise(int(ends[-1]))
    whole_NB = air(taps)[0].step(sent_NB)
    convolve, _ = air(taps)
    pieces = [convolve.step(part) for part in np.split(sent_NB, ends[:-1], axis=1)]
    assert np.array_equal(np.concatenate(pieces, axis=1), whole_NB)


def test_a_receiver_whose_clock_is_fast_hears_everything_later_and_later_and_slips():
    convolve, late = air(two_nodes([0.0], [[1.0], [1.0]]), block=100, ppm=(-50.0, 150.0))
    signal = limited(1 << 16, 0.6)
    arrived = convolve.step(np.stack([signal(0.0), np.zeros(1 << 16)]).astype(np.complex64))[1]
    for at, drift in ((20_000, 4.0), (35_000, 7.0), (50_000, -6.0), (60_000, -4.0)):
        around = slice(at - 25, at + 25)
        assert error_db(arrived[around], signal(late + drift)[around]) < -40.0
