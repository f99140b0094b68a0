import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.markov import TwoState
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from channel.propagation.interference import (
    BurstyInterferer,
    Interferer,
    Jammer,
    bursty_error_rate,
    downlink_sinr,
    poisson_coverage,
    rayleigh_coverage,
    received_w,
    sinr,
)
from channel.propagation.placement import poisson_in_disc

POWERS = st.floats(1e-18, 1e3)


def test_sinr_is_signal_over_noise_and_interference():
    assert sinr(6.0, 1.0, 2.0) == pytest.approx(2.0)
    assert received_w(2.0, np.array([0.0, 30.0, -3.0])) == pytest.approx([2.0, 2e-3, 3.990525], rel=1e-6)


@given(signal_w=POWERS, interference_w=POWERS, more_w=POWERS, noise_w=POWERS)
def test_more_interference_never_gives_more_sinr(signal_w, interference_w, more_w, noise_w):
    assert sinr(signal_w, interference_w + more_w, noise_w) <= sinr(signal_w, interference_w, noise_w)


def test_every_cell_but_the_serving_one_interferes_with_its_load():
    gain_UC = np.array([[1.0, 0.1, 0.01], [0.2, 0.4, 1e-12]])
    power_w_C = np.array([10.0, 10.0, 20.0])
    full = downlink_sinr(power_w_C, gain_UC, 0.5)
    assert full[0] == pytest.approx([10.0 / 1.7, 1.0 / 10.7, 0.2 / 11.5])
    half = downlink_sinr(power_w_C, gain_UC, 0.5, load_C=np.array([1.0, 0.5, 0.0]))
    assert half[0] == pytest.approx([10.0 / 1.0, 1.0 / 10.5, 0.2 / 11.0])
    assert downlink_sinr(power_w_C, gain_UC, 0.5, load_C=0.0)[1] == pytest.approx([4.0, 8.0, 4e-11])


# Conformance row 10: mean ratio 10 dB, threshold 0 dB
def test_a_rayleigh_interferer_costs_the_outage_of_the_closed_form():
    signal, interferer = stream(0, "sir").exponential(size=(2, 2_000_000))
    outage = float((10.0 * signal < interferer).mean())
    assert 1.0 - rayleigh_coverage(1.0, np.inf, 10.0) == pytest.approx(0.0909, abs=1e-4)
    assert outage == pytest.approx(1 / 11, rel=0.01)
    assert rayleigh_coverage(1.0, 100.0, 10.0) == pytest.approx(0.9000, abs=1e-4)
    covered = (100.0 * signal / (1.0 + 10.0 * interferer) >= 1.0).mean()
    assert covered == pytest.approx(rayleigh_coverage(1.0, 100.0, 10.0), rel=0.01)


def test_poisson_coverage_has_the_reference_values():
    theta = db_to_ratio(np.array([-5.0, 0.0, 5.0, 10.0]))
    assert poisson_coverage(theta) == pytest.approx([0.7764, 0.5601, 0.3469, 0.2000], abs=1e-4)
    assert poisson_coverage(theta) == pytest.approx(
        1 / (1 + np.sqrt(theta) * np.arctan(np.sqrt(theta))), rel=1e-9
    )
    assert poisson_coverage(0.0, exponent=3.0) == 1.0


@pytest.mark.slow
# Conformance row 11: 4,000 drops of about 200 stations
def test_coverage_of_poisson_placed_stations_follows_the_closed_form():
    covered = []
    for drop in range(4000):
        rng = stream(0, "poisson", drop)
        distance_m = np.hypot(*poisson_in_disc(rng, per_m2=200 / (np.pi * 1000.0**2), radius_m=1000.0).T)
        power_w = rng.exponential(size=distance_m.size) * distance_m**-4.0
        nearest = distance_m.argmin()
        covered.append(sinr(power_w[nearest], power_w.sum() - power_w[nearest], 1e-30) > 1.0)
    assert np.mean(covered) == pytest.approx(0.5601, abs=0.02)


def test_a_jammer_is_on_for_its_duty_of_every_period():
    jammer: Interferer = Jammer(on_w=2.0, period_s=0.01, duty=0.3, start_s=1.0)
    power_w = jammer.power_w(np.array([0.999, 1.0, 1.0029, 1.0031, 1.0099, 1.0101]))
    assert power_w.tolist() == [0.0, 2.0, 2.0, 0.0, 0.0, 2.0]
    assert jammer.power_w(1.0 + np.arange(100_000) * 1.7e-5).mean() == pytest.approx(0.6, rel=0.01)
    times_s = np.linspace(0.0, 5.0, 11)
    assert (Jammer(on_w=1.0, period_s=1.0, duty=1.0).power_w(times_s) == 1.0).all()
    assert not Jammer(on_w=1.0, period_s=1.0, duty=0.0).power_w(times_s).any()


def test_a_bursty_interferer_radiates_in_the_mean_its_duty():
    activity = TwoState(seed=0, name=("neighbour",), mean_on_s=0.02, mean_off_s=0.08)
    bursty: Interferer = BurstyInterferer(on_w=5.0, activity=activity)
    power_w = bursty.power_w(np.arange(200_000) * 0.005)
    assert set(np.unique(power_w)) == {0.0, 5.0}
    assert power_w.mean() == pytest.approx(1.0, rel=0.05)


def test_short_blocks_see_the_mean_of_the_two_error_rates():
    assert bursty_error_rate(0.2, 0.9, 0.01) == pytest.approx(0.188)
    activity = TwoState(seed=1, name=("neighbour",), mean_on_s=0.1, mean_off_s=0.4)
    times_s = np.arange(200_000) * 0.01
    error_rate = np.where(activity.is_on(times_s), 0.9, 0.01)
    lost = stream(0, "blocks").random(times_s.size) < error_rate
    assert lost.mean() == pytest.approx(0.188, rel=0.05)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: sinr(-1.0, 0.0, 1.0), "signal_w must be at least 0, got -1.0"),
        (lambda: sinr(1.0, -1.0, 1.0), "interference_w must be at least 0, got -1.0"),
        (lambda: sinr(1.0, 0.0, 0.0), "noise_w must be above 0, got 0.0"),
        (lambda: received_w(-1.0, 3.0), "power_w must be at least 0, got -1.0"),
        (
            lambda: downlink_sinr(np.ones(2), np.ones((1, 2)), 1.0, load_C=1.5),
            r"load_C must lie in \[0, 1\], got 1.5",
        ),
        (lambda: Jammer(on_w=-1.0, period_s=1.0, duty=0.5), "on_w must be at least 0, got -1.0"),
        (lambda: Jammer(on_w=1.0, period_s=0.0, duty=0.5), "period_s must be above 0, got 0.0"),
        (lambda: Jammer(on_w=1.0, period_s=1.0, duty=1.5), r"duty must lie in \[0, 1\], got 1.5"),
        (lambda: poisson_coverage(1.0, exponent=2.0), "exponent must be above 2, got 2.0"),
        (lambda: rayleigh_coverage(-1.0, 1.0, 1.0), "threshold must be at least 0, got -1.0"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
