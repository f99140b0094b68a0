"""The modem against liquid-dsp, an independent OFDM modem."""

import numpy as np
import pytest

from channel.core.rng import stream
from channel.fidelity.comparison import law_at_db
from channel.phy.receivers import MODEM, implementation_loss_db
from channel.waveform.header import Header
from channel.waveform.modulator import Modulator
from channel.waveform.receiver import Receiver
from tests.channel.oracle.liquid_modem import GOLAY_24_12, HAMMING_12_8, QAM16, QPSK, LiquidModem

pytestmark = pytest.mark.slow

PAYLOAD_BYTES = 1400
OURS_USED = 52


def behind(samples, taps, snr_db, used, rng):
    """The samples behind these taps, at a mean E_s/N0 of `used` subcarriers of 64; noise lies around them."""
    sent = np.convolve(np.pad(samples, 300), taps)
    noise_power = 64 / used / 10 ** (snr_db / 10)
    noise = rng.standard_normal((2, sent.size)) * np.sqrt(noise_power / 2)
    return (sent + noise[0] + 1j * noise[1]).astype(np.complex64)


def liquid_error_rate(modem, packets, snr_db, taps_of):
    lost = 0
    for index in range(packets):
        rng = stream(0, "liquid", modem.modulation, modem.code, index)
        payload = rng.bytes(PAYLOAD_BYTES)
        air = behind(modem.packet(payload), taps_of(index), snr_db, modem.used, rng)
        lost += modem.push(air) != [payload]
    return lost / packets


def exponential(index):
    """Rayleigh taps with an exponential profile of 2 samples, of power 1 in the mean."""
    delay, rng = np.arange(14), stream(0, "exponential", index)
    power = np.exp(-delay / 2.0)
    gains = rng.standard_normal((2, delay.size)) * np.sqrt(power / power.sum() / 2)
    return gains[0] + 1j * gains[1]


# The same modulation, code rates of 2/3 and .66, 1/2 and .48
@pytest.mark.parametrize(("mcs", "modulation", "code"), [(9, QPSK, HAMMING_12_8), (13, QAM16, GOLAY_24_12)])
def test_the_modem_needs_six_decibels_less_at_equal_modulation_and_rate(mcs, modulation, code):
    ours_db = law_at_db(mcs) + implementation_loss_db(MODEM)
    theirs = liquid_error_rate(LiquidModem(modulation, code), 150, ours_db + 6.0, lambda index: np.ones(1))
    assert theirs > 0.1


def test_packets_arrive_behind_a_delay_spread_at_which_liquids_do_not():
    theirs = liquid_error_rate(LiquidModem(QPSK, GOLAY_24_12), 100, 20.0, exponential)
    modulator, receiver, lost = Modulator(), Receiver(), 0
    for index in range(100):
        rng = stream(0, "ours", index)
        payload = rng.bytes(PAYLOAD_BYTES)
        samples = modulator.packet(Header(), payload, mcs=6)
        found = receiver.push(behind(samples, exponential(index), 20.0, OURS_USED, rng))
        lost += payload not in [packet.payload for packet in found]
    assert lost <= 1
    assert theirs > 0.5
