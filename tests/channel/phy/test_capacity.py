import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from channel.phy.capacity import bit_information, capacity, rayleigh_capacity, snr_db_of_information
from tests.quick import quick

ORDERS = (2, 4, 6, 8)


# Conformance row 16
def test_capacities_are_the_reference_values_and_fading_averages_them():
    levels = db_to_ratio(np.array([0.0, 10.0, 20.0]))
    assert capacity(levels) == pytest.approx([1.0, 3.4594, 6.6582], rel=1e-4)
    assert rayleigh_capacity(levels) == pytest.approx([0.8603, 2.9065, 5.8840], rel=1e-4)
    power = stream(0, "fading").exponential(size=2_000_000)
    assert capacity(10.0 * power).mean() == pytest.approx(2.9065, rel=0.005)


def test_capacity_at_low_snr_is_proportional_to_it():
    assert rayleigh_capacity(1e-6) == pytest.approx(1e-6 / np.log(2.0), rel=1e-5)
    assert capacity(0.0) == 0.0


def integrated(modulation_order, snr_db):
    """The same information by the trapezoidal rule over what is received, for the likelihoods of each bit."""
    bits = modulation_order // 2
    spot = np.arange(2**bits)
    label = spot ^ (spot >> 1)
    level = (2.0 * spot - (spot.size - 1)) / np.sqrt(2.0 * (spot.size**2 - 1) / 3.0)
    sigma = np.sqrt(0.5 / db_to_ratio(snr_db))
    heard = np.linspace(level[0] - 10 * sigma, level[-1] + 10 * sigma, 20_001)
    likelihood = np.exp(-((heard[:, None] - level) ** 2) / (2 * sigma**2)) / (sigma * np.sqrt(2 * np.pi))
    total = 0.0
    for bit in range(bits):
        for value in (0, 1):
            given_bit = likelihood[:, (label >> bit & 1) == value].mean(axis=1)
            ratio = np.maximum(given_bit, 1e-300) / np.maximum(likelihood.mean(axis=1), 1e-300)
            total += 0.5 * float(np.sum(given_bit * np.log2(ratio))) * (heard[1] - heard[0])
    return total / bits


@pytest.mark.parametrize("modulation_order", quick(ORDERS, 2, 4))
def test_the_table_of_information_is_right_to_six_digits(modulation_order):
    for snr_db in (-25.0, -5.0, 0.0, 3.0, 10.0, 17.0, 24.0):
        assert bit_information(modulation_order, snr_db) == pytest.approx(
            integrated(modulation_order, snr_db), abs=2e-6
        )


# QPSK at 0 dB carries 0.9719 bits: e.g. Proakis & Salehi, Digital Communications, 5th ed., figure 6.5-3
def test_qpsk_at_0_db_carries_the_textbook_value():
    assert 2 * bit_information(2, 0.0) == pytest.approx(0.9719, abs=1e-4)


@given(modulation_order=st.sampled_from(ORDERS), snr_db=st.floats(-60, 60), more_db=st.floats(0, 30))
def test_information_grows_with_snr_and_stays_below_capacity(modulation_order, snr_db, more_db):
    less, more = bit_information(modulation_order, np.array([snr_db, snr_db + more_db]))
    assert 0.0 <= less <= more <= 1.0
    assert modulation_order * less <= capacity(db_to_ratio(snr_db)) * (1 + 2e-3)


@given(modulation_order=st.sampled_from(ORDERS), snr_db=st.floats(-60, 12))
def test_the_inverse_undoes_it(modulation_order, snr_db):
    there = bit_information(modulation_order, snr_db)
    assert snr_db_of_information(modulation_order, there) == pytest.approx(snr_db, abs=1e-6)


def test_a_certain_bit_needs_the_top_of_the_grid_and_an_empty_one_next_to_nothing():
    assert snr_db_of_information(4, np.array([1.0, 1.7])).tolist() == [50.0, 50.0]
    assert snr_db_of_information(4, 0.0) < -1000.0


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: bit_information(3, 0.0), r"modulation_order must be one of \(2, 4, 6, 8\), got 3"),
        (lambda: snr_db_of_information(2, -0.1), "information must be at least 0, got -0.1"),
        (lambda: capacity(-0.1), "snr must be at least 0, got -0.1"),
        (lambda: rayleigh_capacity(0.0), "mean_snr must be above 0, got 0.0"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
