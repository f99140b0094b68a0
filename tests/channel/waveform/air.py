"""A channel for tests: taps, carrier offset and white noise."""

import numpy as np

from channel.core.rng import stream
from channel.waveform.numerology import SMALLEST


def heard(
    samples, *, snr_db, name, numerology=SMALLEST, offset=0.0, taps=(1.0,), before=300, after=100, seed=0
):
    """Samples after the channel, at E_s/N0 on a used subcarrier before the taps; silence lies around them."""
    sent = np.convolve(np.concatenate([np.zeros(before), samples, np.zeros(after)]), taps)
    noise_power = numerology.fft_size / numerology.carrier_K.size / 10 ** (snr_db / 10)
    noise = stream(seed, name).standard_normal((2, sent.size)) * np.sqrt(noise_power / 2)
    turned = sent * np.exp(2j * np.pi * offset * np.arange(sent.size))
    return (turned + noise[0] + 1j * noise[1]).astype(np.complex64)


def skewed(samples, difference):
    """The samples as a clock takes them that is slower by this ratio: delays grow, in steps of 32 samples."""
    padded, frequency = np.pad(samples, (112, 300)), np.fft.fftfreq(256)
    found = np.empty(samples.size, dtype=np.complex128)
    for begin in range(0, samples.size, 32):
        turn = np.exp(2j * np.pi * frequency * difference * (begin + 16))
        piece = np.fft.ifft(np.fft.fft(padded[begin : begin + 256]) * turn)
        found[begin : begin + 32] = piece[112:144][: samples.size - begin]
    return found
