import math

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.core.units import ratio_to_db
from channel.propagation.fading import jakes_correlation
from channel.propagation.tdl import PROFILES, TappedDelayLine, rms_delay_spread


def line(profile="A", *, links=400, delay_spread_s=100e-9, doppler_hz=50.0, num_waves=16):
    return TappedDelayLine.stack(
        [
            TappedDelayLine.draw(
                stream(0, "tdl", link),
                profile=profile,
                delay_spread_s=delay_spread_s,
                doppler_hz=doppler_hz,
                num_waves=num_waves,
            )
            for link in range(links)
        ]
    )


# Every table of clause 7.7.2 is normalised to a delay spread of one, which a mistyped entry would break.
@pytest.mark.parametrize(("profile", "taps"), [("A", 23), ("B", 23), ("C", 24), ("D", 13), ("E", 14)])
def test_the_tables_have_a_delay_spread_of_one(profile, taps):
    row = PROFILES[profile]
    assert len(row.delay_L) == len(row.power_db_L) == taps
    # A tenth of a decibel is the tables' own rounding, and 0.6 % of the delay spread of D.
    assert rms_delay_spread(np.asarray(row.delay_L), row.power_L) == pytest.approx(1.0, abs=0.007)
    assert row.power_L.sum() == pytest.approx(1.0)


@pytest.mark.parametrize(("profile", "k_db"), [("D", 13.3), ("E", 22.0)])
def test_the_first_tap_in_sight_has_its_rice_factor(profile, k_db):
    ratio_L = PROFILES[profile].k_ratio_L
    assert ratio_to_db(float(ratio_L[0])) == pytest.approx(k_db, abs=1e-6)
    assert not ratio_L[1:].any()


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_the_mean_power_is_one_at_every_frequency(profile):
    response = line(profile).response(np.array([0.0, 1.0]), np.array([-5e6, 0.0, 4e6]))
    assert response.shape == (400, 2, 3)
    assert (np.abs(response) ** 2).mean(axis=(0, 1)) == pytest.approx(1.0, abs=0.15)


def test_the_taps_have_the_powers_of_the_table():
    power_L = (np.abs(line("C", links=500).taps(np.arange(4) * 10.0)) ** 2).mean(axis=(0, 2))
    assert power_L == pytest.approx(PROFILES["C"].power_L, rel=0.15)


def test_the_frequency_correlation_is_the_transform_of_the_delay_profile():
    frequencies_hz = np.array([0.0, 0.5e6, 2e6])
    response = line("B", links=1000).response(np.arange(4) * 10.0, frequencies_hz)
    found = (response * response[..., :1].conj()).mean(axis=(0, 1))
    delays_s = np.asarray(PROFILES["B"].delay_L) * 100e-9
    expected = np.exp(-2j * math.pi * np.outer(frequencies_hz, delays_s)) @ PROFILES["B"].power_L
    assert np.abs(found - expected).max() < 0.06


def test_every_tap_has_jakes_correlation():
    gain = line("A", links=60, doppler_hz=10.0).taps(np.arange(40) * 0.005)
    unit = gain / np.sqrt(PROFILES["A"].power_L)[:, None]
    found = np.array([(unit[..., : 40 - lag] * unit[..., lag:].conj()).mean() for lag in range(20)])
    assert np.abs(found - jakes_correlation(10.0, np.arange(20) * 0.005)).max() < 0.05


def test_the_constant_tap_turns_at_seven_tenths_of_the_largest_shift():
    times_s = np.arange(5000) * 1e-3
    spectrum = np.abs(np.fft.fft(line("E", links=1).taps(times_s)[0, 0]))
    peak_hz = np.fft.fftfreq(5000, 1e-3)[spectrum.argmax()]
    assert peak_hz == pytest.approx(0.7 * 50.0, abs=0.21)


def test_the_order_of_asking_changes_nothing():
    links = line("D", links=3)
    times_s, frequencies_hz = stream(0, "times").random(50), np.arange(8) * 180e3
    together = links.response(times_s, frequencies_hz)
    assert np.array_equal(links.response(times_s[20:21], frequencies_hz)[:, 0], together[:, 20])
    alone = TappedDelayLine.draw(
        stream(0, "tdl", 1), profile="D", delay_spread_s=100e-9, doppler_hz=50.0, num_waves=16
    )
    assert np.array_equal(alone.response(times_s, frequencies_hz), together[1])


def test_without_delay_spread_all_frequencies_fade_alike():
    response = line(links=2, delay_spread_s=0.0).response(np.zeros(1), np.array([0.0, 1e7]))
    assert np.array_equal(response[..., 0], response[..., 1])


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: line("F"), "profile must be one of A, B, C, D, E, got 'F'"),
        (lambda: line(delay_spread_s=-1e-9), "delay_spread_s must be at least 0, got -1e-09"),
        (lambda: line(doppler_hz=-1.0), "doppler_hz must be at least 0, got -1.0"),
        (lambda: TappedDelayLine.stack([]), "lines must be at least one and all have the same delays"),
        (
            lambda: TappedDelayLine.stack([line("A", links=1), line("B", links=1)]),
            "lines must be at least one and all have the same delays",
        ),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
