import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.phy.analog import (
    AirComputation,
    complex_noise,
    lmmse,
    through_air,
    to_symbols,
    to_values,
    zero_forcing,
)

SYMBOLS = 1_000_000


def error_power(equalised, symbols):
    return float(np.mean(np.abs(equalised - symbols) ** 2))


@given(values=st.lists(st.floats(-1e3, 1e3), max_size=9))
def test_values_survive_being_symbols(values):
    there = to_symbols(np.array(values))
    assert there.shape == ((len(values) + 1) // 2,)
    assert to_values(there, len(values)) == pytest.approx(values, abs=1e-9)


def test_values_of_unit_mean_square_are_symbols_of_unit_power():
    symbols = to_symbols(stream(0, "values").standard_normal((3, 100_001)))
    assert (np.abs(symbols) ** 2).mean() == pytest.approx(1.0, rel=0.01)
    assert symbols.shape == (3, 50_001)


# Conformance row 21: 10 dB
def test_equalisers_leave_the_error_of_the_closed_forms():
    rng = stream(0, "analog")
    symbols = complex_noise(rng, (SYMBOLS,), 1.0)
    gain = np.exp(2j * np.pi * rng.random(SYMBOLS))
    received = through_air(rng, symbols, gain, power=2.0, noise_power=0.2)
    best = lmmse(received, gain, power=2.0, noise_power=0.2)
    assert error_power(best, symbols) == pytest.approx(1 / 11, rel=0.01)
    assert error_power(zero_forcing(received, gain, power=2.0), symbols) == pytest.approx(0.1, rel=0.01)


def test_lmmse_never_leaves_more_error_than_zero_forcing_in_fading():
    rng = stream(1, "analog")
    symbols, gain = complex_noise(rng, (2, 100_000), 1.0)
    received = through_air(rng, symbols, gain, power=1.0, noise_power=0.1)
    best = lmmse(received, gain, power=1.0, noise_power=0.1)
    assert error_power(best, symbols) < error_power(zero_forcing(received, gain, power=1.0), symbols)
    snr = np.abs(gain) ** 2 / 0.1
    assert error_power(best, symbols) == pytest.approx(np.mean(1 / (1 + snr)), rel=0.01)


def test_without_noise_zero_forcing_is_exact():
    rng = stream(2, "analog")
    symbols, gain = complex_noise(rng, (2, 50), 1.0)
    received = through_air(rng, symbols, gain, power=3.0, noise_power=0.0)
    assert zero_forcing(received, gain, power=3.0) == pytest.approx(symbols)


def test_truncated_inversion_has_the_reference_share_and_power():
    air = AirComputation(snr=10.0, truncation=0.1)
    assert air.participation == pytest.approx(0.905, abs=5e-4)
    assert air.snr / air.alignment == pytest.approx(1.823, abs=5e-4)
    power = stream(0, "gains").exponential(size=2_000_000)
    active = power >= 0.1
    assert active.mean() == pytest.approx(air.participation, rel=0.005)
    assert np.where(active, air.alignment / power, 0.0).mean() == pytest.approx(10.0, rel=0.01)


def test_over_the_air_computation_is_the_mean_of_participants_plus_receiver_noise():
    rng = stream(0, "air")
    gain = complex_noise(rng, (20,), 1.0)
    values = 0.3 * rng.standard_normal((20, 40_001))
    air = AirComputation(snr=10.0)
    heard = air.mean(rng, values, gain, scale=0.3)
    assert np.array_equal(heard.took_part_K, np.abs(gain) ** 2 >= 0.1)
    error = heard.mean_D - values[heard.took_part_K].mean(axis=0)
    count = int(heard.took_part_K.sum())
    # A unit symbol carries two values of unit mean square: the noise of a value equals that of a symbol.
    assert np.mean(error**2) == pytest.approx(0.3**2 / (count**2 * air.alignment), rel=0.03)
    assert error.mean() == pytest.approx(0.0, abs=1e-3)


def test_a_residual_phase_shrinks_the_sum():
    rng = stream(0, "phase")
    values = np.ones((4000, 2))
    air = AirComputation(snr=1e9, phase_error_rad=0.5)
    heard = air.mean(rng, values, np.ones(4000, dtype=complex), scale=1.0)
    assert heard.mean_D.mean() == pytest.approx(np.exp(-0.125), rel=0.02)


def test_without_participants_the_mean_is_zero_and_marked():
    heard = AirComputation(snr=10.0).mean(stream(0), np.ones((3, 5)), np.full(3, 0.01 + 0j), scale=1.0)
    assert not heard.took_part_K.any()
    assert not heard.mean_D.any()


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: AirComputation(snr=0.0), "snr must be above 0, got 0.0"),
        (lambda: AirComputation(snr=1.0, truncation=0.0), "truncation must be above 0, got 0.0"),
        (
            lambda: AirComputation(snr=1.0, phase_error_rad=-1.0),
            "phase_error_rad must be at least 0, got -1.0",
        ),
        (
            lambda: AirComputation(snr=1.0).mean(
                stream(0), np.ones((3, 5)), np.ones(2, dtype=complex), scale=1.0
            ),
            r"values_KD must be \(K, D\) and gain_K \(K,\), got \(3, 5\) and \(2,\)",
        ),
        (
            lambda: AirComputation(snr=1.0).mean(
                stream(0), np.ones((1, 5)), np.ones(1, dtype=complex), scale=0.0
            ),
            "scale must be above 0, got 0.0",
        ),
        (lambda: to_values(np.zeros(2, dtype=complex), 5), "count must be at most 4, got 5"),
        (
            lambda: zero_forcing(np.ones(2, dtype=complex), np.array([1.0, 0.0], dtype=complex), power=1.0),
            r"\|gain\| must be above 0, got 0.0",
        ),
        (
            lambda: lmmse(np.ones(1, dtype=complex), np.ones(1, dtype=complex), power=1.0, noise_power=0.0),
            "noise_power must be above 0, got 0.0",
        ),
        (lambda: complex_noise(stream(0), (1,), -1.0), "power must be at least 0, got -1.0"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
