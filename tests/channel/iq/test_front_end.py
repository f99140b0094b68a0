import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.iq.front_end import FrontEnd, Oscillator

RATE_HZ = 1e6


def tone(cycles, count=4096):
    return np.exp(2j * np.pi * cycles * np.arange(count)).astype(np.complex64)


def rotation(front_end, *counts):
    oscillator = Oscillator(front_end, rate_hz=RATE_HZ, seed=0, node=1)
    return np.concatenate([oscillator.rotation(count) for count in counts])


def test_an_ideal_front_end_hands_samples_on_unchanged():
    samples = tone(0.1)
    assert FrontEnd().transmitted(samples, None) is samples
    assert FrontEnd().received(samples, None) is samples
    assert Oscillator(FrontEnd(), rate_hz=RATE_HZ, seed=0, node=0).rotation(10) is None


def test_an_oscillator_offset_turns_up_what_is_sent_and_down_what_is_received():
    front_end = FrontEnd(cfo_hz=1234.5)
    turned = rotation(front_end, 4096)
    assert turned == pytest.approx(tone(1234.5 / RATE_HZ), abs=1e-5)
    sent = front_end.transmitted(tone(0.01), turned)
    assert front_end.received(sent, turned) == pytest.approx(tone(0.01), abs=1e-5)


def test_an_offset_stays_exact_after_hours():
    oscillator = Oscillator(FrontEnd(cfo_hz=250.0), rate_hz=RATE_HZ, seed=0, node=0)
    oscillator._now = 10**11
    assert oscillator.rotation(8) == pytest.approx(tone(2.5e-4, 8), abs=1e-4)


def test_phase_noise_has_the_correlation_of_its_linewidth_and_does_not_depend_on_cuts():
    front_end = FrontEnd(linewidth_hz=500.0)
    whole = rotation(front_end, 400_000)
    assert np.array_equal(rotation(front_end, 1, 2999, 397_000), whole)
    for lag in (100, 400):
        found = (whole[lag:].astype(np.complex128) * whole[:-lag].conj()).mean()
        assert abs(found) == pytest.approx(np.exp(-np.pi * 500.0 * lag / RATE_HZ), abs=0.05)


@pytest.mark.parametrize(("gain_db", "phase_deg"), [(1.0, 0.0), (0.0, 5.0), (-0.5, 3.0)])
def test_imbalance_makes_an_image_of_the_closed_form(gain_db, phase_deg):
    front_end = FrontEnd(iq_gain_db=gain_db, iq_phase_deg=phase_deg)
    spectrum = np.abs(np.fft.fft(front_end.received(tone(256 / 4096), None))) ** 2
    gain, turn = 10 ** (gain_db / 20), np.deg2rad(phase_deg)
    image = (1 - 2 * gain * np.cos(turn) + gain**2) / (1 + 2 * gain * np.cos(turn) + gain**2)
    assert spectrum[-256] / spectrum[256] == pytest.approx(image, rel=1e-3)
    assert front_end.image_ratio == pytest.approx(image)


def test_i_and_q_clip_at_full_scale():
    clipped = FrontEnd(clips=True).received(np.asarray([0.5 - 3j, 1.5 + 0.2j], dtype=np.complex64), None)
    assert clipped == pytest.approx([0.5 - 1j, 1 + 0.2j])


def test_quantisation_noise_is_a_twelfth_of_the_squared_step_in_i_and_q():
    rng = stream(0, "adc")
    samples = (rng.uniform(-0.9, 0.9, 200_000) + 1j * rng.uniform(-0.9, 0.9, 200_000)).astype(np.complex64)
    error = FrontEnd(adc_bits=8).received(samples, None) - samples
    assert (np.abs(error) ** 2).mean() == pytest.approx(2 * (2.0**-7) ** 2 / 12, rel=0.01)
    extremes = FrontEnd(adc_bits=8).received(np.asarray([9 - 9j], dtype=np.complex64), None)
    assert extremes.tolist() == [1 - 2**-7 - 1j]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"adc_bits": 25}, r"adc_bits must be 0 \(none\) or a whole number in \[1, 24\], got 25"),
        ({"sample_rate_ppm": 500.0}, r"sample_rate_ppm must lie in \[-200, 200\], got 500"),
        ({"linewidth_hz": -1.0}, "linewidth_hz must be at least 0, got -1"),
        ({"iq_phase_deg": 90.0}, "iq_phase_deg must lie in"),
        ({"cfo_hz": float("nan")}, "cfo_hz must be at least"),
    ],
)
def test_values_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(BadParameter, match=message):
        FrontEnd(**settings)
