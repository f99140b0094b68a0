import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from channel.phy.modulation import (
    MODULATIONS,
    bit_error_rate,
    combined_bit_error_rate,
    rayleigh_bit_error_rate,
    rician_bit_error_rate,
)

SYMBOLS = 2_000_000


def ratios(*levels_db):
    return db_to_ratio(np.array(levels_db))


def simulated(modulation, snr_per_bit_db):
    """Bit error rate of Gray-mapped square QAM: SYMBOLS symbols as twice as many amplitudes."""
    rng = stream(0, "qam", modulation, snr_per_bit_db)
    bits = MODULATIONS[modulation] // 2
    levels = 2**bits
    sent = rng.integers(levels, size=2 * SYMBOLS, dtype=np.int16)
    half_step = np.sqrt(1.5 / (levels**2 - 1))
    noise = rng.standard_normal(sent.size, dtype=np.float32)
    sigma = np.sqrt(0.5 / (2 * bits * db_to_ratio(snr_per_bit_db)))
    amplitude = half_step * (2 * sent - (levels - 1)) + sigma * noise
    heard = np.clip(np.rint((amplitude / half_step + (levels - 1)) / 2), 0, levels - 1).astype(np.int16)
    wrong = (sent ^ (sent >> 1)) ^ (heard ^ (heard >> 1))
    return float(sum((wrong >> bit & 1).sum(dtype=np.int64) for bit in range(bits))) / (bits * sent.size)


# Conformance rows 1 to 3
@pytest.mark.parametrize(
    ("modulation", "snr_per_bit_db", "exact", "tolerance"),
    [
        ("qpsk", 4.0, 0.012501, 0.02),
        ("qpsk", 8.0, 1.909e-4, 0.12),
        ("16qam", 8.0, 0.009247, 0.02),
        ("64qam", 12.0, 0.009724, 0.02),
    ],
)
def test_simulated_symbol_error_rates_follow_the_closed_form(modulation, snr_per_bit_db, exact, tolerance):
    assert bit_error_rate(modulation, db_to_ratio(snr_per_bit_db)) == pytest.approx(exact, rel=5e-4)
    assert simulated(modulation, snr_per_bit_db) == pytest.approx(exact, rel=tolerance)


@pytest.mark.parametrize(
    ("modulation", "levels_db", "expected"),
    [
        ("bpsk", (0, 2, 4, 6, 8, 9.6), (0.07865, 0.03751, 0.01250, 0.002388, 1.909e-4, 9.74e-6)),
        ("qpsk", (0, 2, 4, 6, 8, 9.6), (0.07865, 0.03751, 0.01250, 0.002388, 1.909e-4, 9.74e-6)),
        ("16qam", (4, 8, 10), (0.05862, 0.009247, 0.001754)),
        ("64qam", (8, 12, 14), (0.05233, 0.009724, 0.002154)),
    ],
)
def test_error_rates_in_noise_are_the_reference_values(modulation, levels_db, expected):
    assert bit_error_rate(modulation, ratios(*levels_db)) == pytest.approx(expected, rel=1e-3)


def test_error_rates_in_fading_are_the_reference_values():
    faded = rayleigh_bit_error_rate("bpsk", ratios(0, 5, 10, 20, 30))
    assert faded == pytest.approx([0.1464, 0.06418, 0.02327, 0.002481, 2.498e-4], rel=1e-3)
    assert rician_bit_error_rate("bpsk", ratios(5, 10), 5.0) == pytest.approx([0.02397, 0.003299], rel=1e-3)
    assert rician_bit_error_rate("bpsk", ratios(5), ratios(10)) == pytest.approx([0.01485], rel=1e-3)
    assert combined_bit_error_rate(ratios(10), 2) == pytest.approx([0.001599], rel=1e-3)


# Conformance rows 4 and 5: +-2, 2 and 5 % in Rayleigh fading, 5 % in Rician
@pytest.mark.parametrize(
    ("k_ratio", "mean_db", "tolerance"), [(0.0, 5, 0.02), (0.0, 10, 0.02), (0.0, 20, 0.05), (5.0, 10, 0.05)]
)
def test_simulated_bit_error_rates_in_fading_follow_the_closed_form(k_ratio, mean_db, tolerance):
    mean_snr = float(db_to_ratio(float(mean_db)))
    real, imag, noise = stream(0, "fading", mean_db).standard_normal((3, SYMBOLS))
    scale = np.sqrt(0.5 / (k_ratio + 1.0))
    strength = np.hypot(scale * real + np.sqrt(k_ratio / (k_ratio + 1.0)), scale * imag)
    wrong = (strength * np.sqrt(2.0 * mean_snr) + noise < 0.0).mean()
    assert wrong == pytest.approx(rician_bit_error_rate("bpsk", mean_snr, k_ratio), rel=tolerance)


@pytest.mark.parametrize("modulation", sorted(MODULATIONS))
def test_rice_without_a_constant_wave_is_rayleigh_and_with_nothing_else_is_noise_alone(modulation):
    levels = ratios(-5, 0, 5, 10, 15, 20, 30)
    still = rician_bit_error_rate(modulation, levels[:4], 1e6)
    assert rician_bit_error_rate(modulation, levels, 0.0) == pytest.approx(
        rayleigh_bit_error_rate(modulation, levels), rel=1e-6
    )
    assert still == pytest.approx(bit_error_rate(modulation, levels[:4]), rel=1e-3)


@given(modulation=st.sampled_from(sorted(MODULATIONS)), low_db=st.floats(-20, 40), more_db=st.floats(0, 40))
def test_more_signal_never_means_more_errors_and_fading_never_fewer_at_high_snr(modulation, low_db, more_db):
    low, high = ratios(low_db, low_db + more_db)
    for rate in (bit_error_rate, rayleigh_bit_error_rate):
        assert 0.0 <= rate(modulation, high) <= rate(modulation, low) * (1 + 1e-12) <= 0.5
    if low_db > 15.0:
        assert bit_error_rate(modulation, low) <= rayleigh_bit_error_rate(modulation, low)


def test_two_antennas_beat_one_and_one_is_no_combining():
    assert combined_bit_error_rate(ratios(10), 1) == pytest.approx(
        rayleigh_bit_error_rate("bpsk", ratios(10))
    )
    rates = [float(combined_bit_error_rate(10.0, branches)) for branches in (1, 2, 4)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (
            lambda: bit_error_rate("8psk", 1.0),
            "modulation must be one of bpsk, qpsk, 16qam, 64qam, got '8psk'",
        ),
        (lambda: bit_error_rate("qpsk", -1.0), "snr_per_bit must be at least 0, got -1.0"),
        (lambda: rician_bit_error_rate("qpsk", 1.0, -1.0), "k_ratio must be at least 0, got -1.0"),
        (lambda: combined_bit_error_rate(1.0, 0), "branches must be a whole number of at least 1, got 0"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
