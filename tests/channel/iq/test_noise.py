from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.iq.disturbance import ConstantLevels, Disturbance, thermal_levels
from channel.iq.noise import GRAIN, WhiteNoise
from channel.propagation.interference import Jammer

RATE_HZ = 1e6


def added(disturbance, nodes, start, count):
    arrived_NB = np.zeros((nodes, count), dtype=np.complex64)
    disturbance.add(arrived_NB, start)
    return arrived_NB


def test_noise_is_white_circular_and_of_mean_power_1():
    samples = WhiteNoise(0, "a").samples(0, 200 * GRAIN).astype(np.complex128)
    count = samples.size
    assert (np.abs(samples) ** 2).mean() == pytest.approx(1.0, abs=4.0 / np.sqrt(count))
    assert abs((samples**2).mean()) < 4.0 / np.sqrt(count)
    for lag in (1, 2, GRAIN // 2, GRAIN):
        assert abs((samples[lag:] * samples[:-lag].conj()).mean()) < 4.0 / np.sqrt(count)


def test_noise_depends_on_seed_name_and_sample_number_only():
    noise = WhiteNoise(3, "noise", 1)
    whole = noise.samples(0, 4 * GRAIN)
    late = WhiteNoise(3, "noise", 1).samples(3 * GRAIN - 10, 30)
    assert np.array_equal(late, whole[3 * GRAIN - 10 : 3 * GRAIN + 20])
    assert np.array_equal(noise.samples(0, 10), whole[:10])
    for other in (WhiteNoise(4, "noise", 1), WhiteNoise(3, "noise", 2)):
        assert not np.isin(other.samples(0, GRAIN), whole).any()


def test_no_grain_repeats_another():
    samples = WhiteNoise(0, "a").samples(0, 50 * GRAIN)
    assert np.unique(samples).size == samples.size


@settings(max_examples=20)
@given(cuts=st.lists(st.integers(1, 5999), max_size=6, unique=True))
def test_cuts_do_not_change_noise_and_jammer(cuts):
    def fresh():
        return Disturbance(
            seed=1,
            rate_hz=RATE_HZ,
            slot_s=5e-4,
            levels=ConstantLevels(floor=np.asarray([1.0, 0.5]), gain=np.asarray([[0.1, 2.0]])),
            emitters=[Jammer(on_w=3.0, period_s=2e-3, duty=0.5)],
        )

    whole_NB = added(fresh(), 2, 0, 6000)
    disturbance, edges = fresh(), [0, *sorted(cuts), 6000]
    pieces = [added(disturbance, 2, begin, end - begin) for begin, end in pairwise(edges)]
    assert np.array_equal(np.concatenate(pieces, axis=1), whole_NB)


def test_receivers_have_independent_noise_of_their_own_power():
    power_N = np.asarray([1.0, 4.0, 1e-6])
    disturbance = Disturbance(
        seed=0, rate_hz=RATE_HZ, slot_s=5e-4, levels=thermal_levels(power_N), emitters=[]
    )
    arrived = added(disturbance, 3, 0, 100_000).astype(np.complex128)
    assert (np.abs(arrived) ** 2).mean(axis=1) / power_N == pytest.approx([1.0] * 3, abs=0.015)
    assert abs(np.vdot(arrived[0], arrived[1])) / np.sqrt(4.0) / 100_000 < 0.015


def test_a_jammer_is_one_waveform_that_is_on_in_the_slots_of_its_pulses():
    jammer = Jammer(on_w=2.0, period_s=4e-3, duty=0.25)
    levels = ConstantLevels(floor=np.zeros(2), gain=np.asarray([[0.5, 2.0]]))
    disturbance = Disturbance(seed=0, rate_hz=RATE_HZ, slot_s=5e-4, levels=levels, emitters=[jammer])
    arrived = added(disturbance, 2, 0, 40_000)
    is_on = np.repeat(jammer.power_w(np.arange(80) * 5e-4) > 0.0, 500)  # the states of the packet level
    assert 0.2 < is_on.mean() < 0.3
    assert np.array_equal(arrived[0] != 0.0, is_on)
    assert np.allclose(arrived[1], 2.0 * arrived[0], rtol=1e-5)
    assert (np.abs(arrived[0, is_on]) ** 2).mean() == pytest.approx(1.0, abs=0.05)


def test_what_is_always_on_of_an_emitter_belongs_to_the_floor():
    steady = Jammer(on_w=2.0, period_s=1.0, duty=1.0)
    levels = ConstantLevels(floor=np.zeros(1), gain=np.ones((1, 1)))
    disturbance = Disturbance(seed=0, rate_hz=RATE_HZ, slot_s=5e-4, levels=levels, emitters=[steady])
    assert not added(disturbance, 1, 0, 5000).any()
