import numpy as np
import pytest
from scipy.stats import kstest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from channel.propagation.fading import (
    Fading,
    coherence_time_s,
    fade_duration_s,
    jakes_correlation,
    level_crossing_hz,
    rayleigh_outage,
    rician_outage,
)

SAMPLES = 2_000_000


def rayleigh(count=200, *, doppler_hz=1.0, num_waves=64, **settings):
    return Fading.draw(
        stream(0, "fading"), doppler_hz=doppler_hz, shape=(count,), num_waves=num_waves, **settings
    )


# Conformance row 6: 200 realisations of 64 waves, lags up to f_d tau = 1.5
def test_the_autocorrelation_is_that_of_jakes():
    gain = rayleigh().gain(np.arange(500) * 0.05)
    lags = np.arange(31)
    found = np.array([(gain[:, : 500 - lag] * gain[:, lag:].conj()).mean() for lag in lags])
    assert np.abs(found - jakes_correlation(1.0, lags * 0.05)).max() <= 0.03


def test_jakes_correlation_has_the_values_and_zeros_of_bessel_j0():
    lags = np.array([0.05, 0.1, 0.2, 0.3, 0.5])
    assert jakes_correlation(1.0, lags) == pytest.approx(
        [0.97548, 0.90371, 0.64251, 0.29056, -0.30424], abs=1e-5
    )
    assert jakes_correlation(100.0, np.array([0.38274, 0.87855]) / 100.0) == pytest.approx(0.0, abs=1e-5)


# Conformance row 7: 60 realisations of 100 Doppler periods, sampled 100 times a period
def test_fade_rate_and_duration_follow_rices_formulas():
    assert level_crossing_hz(1.0, 0.5) == pytest.approx(0.9761, abs=1e-4)
    assert fade_duration_s(1.0, 0.5) == pytest.approx(0.2266, abs=1e-4)
    times_s = np.arange(10_000) * 0.001
    is_faded = np.abs(rayleigh(60, doppler_hz=10.0, num_waves=32).gain(times_s)) < 0.5
    rises = np.sum(is_faded[:, :-1] & ~is_faded[:, 1:])
    assert rises / (60 * 10.0) == pytest.approx(level_crossing_hz(10.0, 0.5), rel=0.03)
    assert is_faded.sum() * 0.001 / rises == pytest.approx(fade_duration_s(10.0, 0.5), rel=0.03)


# Conformance row 8
def test_rayleigh_power_is_exponential():
    power = np.abs(rayleigh().gain(np.array([12.3]))[:, 0]) ** 2
    assert kstest(power, "expon").pvalue > 0.01


def test_mean_power_is_one_and_the_fourth_moment_that_of_so_many_waves():
    power = np.abs(rayleigh(2000, num_waves=32).gain(np.arange(10) * 1e3)) ** 2
    assert power.mean() == pytest.approx(1.0, abs=0.03)
    assert (power**2).mean() == pytest.approx(2.0 - 1 / 32, rel=0.05)


def test_the_two_quadratures_are_uncorrelated_and_links_are_independent():
    gain = rayleigh(2000).gain(np.array([0.0, 5.0]))
    assert (gain.real * gain.imag).mean() == pytest.approx(0.0, abs=0.03)
    assert abs((gain[:-1] * gain[1:].conj()).mean()) < 0.03


@pytest.mark.parametrize("k_ratio", [0.0, 1.0, 5.0, 20.0])
def test_a_rice_factor_divides_the_power_between_the_constant_wave_and_the_rest(k_ratio):
    still = Fading.draw(stream(1), doppler_hz=1.0, k_ratio=k_ratio, los_cosine=0.0, shape=(40,), num_waves=32)
    gain = still.gain(np.arange(2000) * 0.37)
    constant = np.abs(gain.mean(axis=-1)) ** 2
    assert constant.mean() == pytest.approx(k_ratio / (k_ratio + 1.0), abs=0.02)
    assert (np.abs(gain) ** 2).mean() == pytest.approx(1.0, abs=0.05)


def test_the_channel_of_a_static_user_is_constant():
    gain = rayleigh(5, doppler_hz=0.0, k_ratio=3.0).gain(np.array([0.0, 1.0, 1e6]))
    assert np.array_equal(gain, np.broadcast_to(gain[:, :1], gain.shape))


def test_the_order_of_asking_changes_nothing():
    process = rayleigh(7, doppler_hz=30.0, k_ratio=2.0, num_waves=16)
    times_s = stream(1, "times").random(1001) * 100.0
    together = process.gain(times_s)
    assert np.array_equal(process.gain(times_s[::-1])[:, ::-1], together)
    for number in (0, 500, 1000):
        assert np.array_equal(process.gain(times_s[number : number + 1])[:, 0], together[:, number])


def test_a_stack_answers_as_its_members_do():
    members = [Fading.draw(stream(0, link), doppler_hz=10.0, k_ratio=1.0, shape=(3,)) for link in range(4)]
    times_s = np.linspace(0.0, 1.0, 11)
    together = Fading.stack(members).gain(times_s)
    assert together.shape == (4, 3, 11)
    assert np.array_equal(together, np.stack([member.gain(times_s) for member in members]))


# Rows 4 and 5 of the table have the bit error rates; here the outage part of row 5
def test_outages_are_those_of_the_closed_forms():
    ratio = 1.0 / db_to_ratio(np.array([5.0, 10.0, 20.0]))
    assert rayleigh_outage(ratio, 1.0) == pytest.approx([0.2711, 0.09516, 0.00995], rel=1e-3)
    assert rician_outage(0.1, 1.0, 5.0) == pytest.approx(0.009642, rel=1e-3)
    assert rician_outage(ratio, 1.0, 0.0) == pytest.approx(rayleigh_outage(ratio, 1.0), rel=1e-9)
    real, imag = stream(0, "rice").standard_normal((2, SAMPLES)) * np.sqrt(1 / 12)
    power = (real + np.sqrt(5 / 6)) ** 2 + imag**2
    assert (power < 0.1).mean() == pytest.approx(0.009642, rel=0.02)


def test_the_coherence_time_is_the_rule_of_thumb():
    assert coherence_time_s(100.0) == pytest.approx(0.00423)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: rayleigh(doppler_hz=-1.0), "doppler_hz must be at least 0, got -1.0"),
        (lambda: rayleigh(k_ratio=-1.0), "k_ratio must be at least 0, got -1.0"),
        (lambda: rayleigh(num_waves=0), "num_waves must be a whole number of at least 1, got 0"),
        (lambda: Fading.stack([]), "processes must be at least one and all of equal shape"),
        (
            lambda: Fading.stack([rayleigh(2), rayleigh(3)]),
            "processes must be at least one and all of equal shape",
        ),
        (lambda: rayleigh_outage(1.0, 0.0), "mean_snr must be above 0, got 0.0"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
