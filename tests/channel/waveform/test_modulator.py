import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.waveform.header import Header, PayloadFormat
from channel.waveform.modulator import Modulator
from channel.waveform.numerology import FFT_SIZES, Numerology
from channel.waveform.preamble import Preamble


@pytest.mark.parametrize("fft_size", FFT_SIZES)
@pytest.mark.parametrize("mcs", [6, 16, 28])
def test_a_packet_has_mean_power_one_and_the_length_that_was_announced(fft_size, mcs):
    modulator = Modulator(Numerology(fft_size=fft_size))
    payload = stream(0, "power", fft_size, mcs).bytes(900)
    samples = modulator.packet(Header(), payload, mcs=mcs)
    assert samples.dtype == np.complex64
    assert samples.size == modulator.length(PayloadFormat(mcs, 0, 900))
    assert np.mean(np.abs(samples) ** 2) == pytest.approx(1.0, abs=0.04)


def test_nothing_is_sent_on_the_middle_and_beyond_the_used_subcarriers():
    numerology = Numerology()
    samples = Modulator().packet(Header(), b"q" * 300, mcs=10)[Preamble(numerology).length :]
    grid = np.fft.fft(samples.reshape(-1, numerology.symbol)[:, numerology.prefix :], axis=1)
    unused = np.setdiff1d(np.arange(64), numerology.carrier_K % 64)
    assert unused.size == 12
    assert np.abs(grid[:, unused]).max() < 1e-4


@pytest.mark.parametrize("fft_size", FFT_SIZES)
def test_a_preamble_has_power_one_and_small_peaks(fft_size):
    power = np.abs(Preamble(Numerology(fft_size=fft_size)).samples) ** 2
    assert power.mean() == pytest.approx(1.0, abs=0.02)
    assert power.max() < 2.5


def test_zeros_are_scrambled():
    samples = Modulator().packet(Header(), bytes(1000), mcs=16)
    assert np.abs(samples).max() < 5.0


@pytest.mark.parametrize(
    ("units", "message"),
    [
        (np.zeros((2, 3)), r"units must be bytes \(U, N\), got float64 \(2, 3\)"),
        (np.zeros(3, dtype=np.uint8), r"got uint8 \(3,\)"),
        (np.zeros((0, 3), dtype=np.uint8), r"got uint8 \(0, 3\)"),
    ],
)
def test_what_are_no_units_is_refused(units, message):
    with pytest.raises(BadParameter, match=message):
        Modulator().unit_packet(Header(), units, mcs=9)


def test_another_number_of_subcarriers_is_refused():
    with pytest.raises(BadParameter, match="fft_size must be one of 64, 128, 256, got 100"):
        Numerology(fft_size=100)
