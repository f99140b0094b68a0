"""Rows 1 to 8: bit error rates with and without fading, and time statistics of fading."""

import math
from functools import lru_cache, partial

import numpy as np

from channel.core.arrays import Array
from channel.phy.analog import complex_noise
from channel.phy.modulation import bit_error_rate, rayleigh_bit_error_rate, rician_bit_error_rate
from channel.propagation.fading import (
    Fading,
    fade_duration_s,
    jakes_correlation,
    level_crossing_hz,
    rician_outage,
)
from channel.validation.check import Check, rng_of, within_percent
from channel.validation.qam import simulated_bit_error_rate, simulated_faded_error_rate

_RICE = 5.0
_LEVEL = 0.5


def _closed(modulation: str, snr_db: float) -> float:
    return float(bit_error_rate(modulation, 10.0 ** (snr_db / 10.0)))


def _simulated(modulation: str, snr_db: float) -> float:
    rng = rng_of("bits", modulation, str(snr_db))
    return simulated_bit_error_rate(rng, modulation, 10.0 ** (snr_db / 10.0), symbols=2_000_000)


def _rayleigh(snr_db: float, bits: int) -> float:
    rng = rng_of("rayleigh", str(snr_db))
    gain = np.abs(complex_noise(rng, (bits,), 1.0))
    return simulated_faded_error_rate(rng, gain, 10.0 ** (snr_db / 10.0))


def _rice_gain(rng: np.random.Generator, count: int) -> Array:
    gain: Array = np.abs(math.sqrt(_RICE / (1.0 + _RICE)) + complex_noise(rng, (count,), 1.0 / (1.0 + _RICE)))
    return gain


def _rice() -> float:
    rng = rng_of("rice bits")
    return simulated_faded_error_rate(rng, _rice_gain(rng, 2_000_000), 10.0)


def _rice_outage() -> float:
    return float((_rice_gain(rng_of("rice outage"), 2_000_000) ** 2 < 0.1).mean())


def _own_rice_outage() -> float:
    rng = rng_of("rice")
    found = 0
    for _ in range(10):
        fading = Fading.draw(rng, doppler_hz=1.0, k_ratio=_RICE, shape=(200_000,), num_waves=64)
        found += int((np.abs(fading.gain(np.zeros(1))[:, 0]) ** 2 < 0.1).sum())
    return found / 2_000_000


def _own_rayleigh() -> float:
    """The BER averaged over the gains of `Fading` instead of simulated bit by bit."""
    fading = Fading.draw(rng_of("own rayleigh"), doppler_hz=1.0, shape=(100_000,), num_waves=32)
    snr = 10.0 * np.abs(fading.gain(np.zeros(1))[:, 0]) ** 2
    return float(bit_error_rate("bpsk", snr).mean())


def _jakes_error() -> float:
    # One product per process has a standard deviation of up to 1; with this many, four fit the tolerance.
    lag_s = 0.05 * np.arange(30, dtype=np.float64)
    gain = Fading.draw(rng_of("jakes"), doppler_hz=1.0, shape=(20_000,), num_waves=16).gain(lag_s)
    found = (gain * np.conj(gain[:, :1])).mean(axis=0).real
    return float(np.abs(found - jakes_correlation(1.0, lag_s)).max())


@lru_cache
def _crossings() -> tuple[float, float]:
    """Level crossing rate in Hz and mean fade duration in s of |h| at half its rms value, 1 Hz Doppler."""
    step_s, steps = 0.005, 4000
    fading = Fading.draw(rng_of("crossings"), doppler_hz=1.0, shape=(250,), num_waves=32)
    is_below = np.abs(fading.gain(step_s * np.arange(steps, dtype=np.float64))) < _LEVEL
    ups = int((is_below[:, :-1] & ~is_below[:, 1:]).sum())
    span_s = 250 * steps * step_s
    return ups / span_s, float(is_below.mean()) * span_s / ups


def _exponential_distance() -> float:
    """The Kolmogorov distance between the powers of 2,000 processes and the exponential law."""
    fading = Fading.draw(rng_of("exponential"), doppler_hz=1.0, shape=(2000,), num_waves=32)
    power = np.sort(np.abs(fading.gain(np.asarray([3.0]))[:, 0]) ** 2)
    law, rank = -np.expm1(-power), np.arange(power.size + 1) / power.size
    return float(max(np.abs(law - rank[1:]).max(), np.abs(law - rank[:-1]).max()))


CHECKS: tuple[Check, ...] = (
    *(
        within_percent(
            row, f"BER of {name}, {db:g} dB", _closed(key, db), percent, partial(_simulated, key, db)
        )
        for row, name, key, db, percent in (
            ("1", "QPSK", "qpsk", 4.0, 2.0),
            ("2", "QPSK", "qpsk", 8.0, 12.0),
            ("3", "16QAM", "16qam", 8.0, 2.0),
            ("3", "64QAM", "64qam", 12.0, 2.0),
        )
    ),
    *(
        within_percent(
            "4",
            f"BER of BPSK in Rayleigh fading, {db:g} dB",
            float(rayleigh_bit_error_rate("bpsk", 10.0 ** (db / 10.0))),
            percent,
            partial(_rayleigh, db, bits),
        )
        for db, percent, bits in ((5.0, 2.0, 1_000_000), (10.0, 2.0, 1_000_000), (20.0, 5.0, 2_000_000))
    ),
    within_percent(
        "4",
        "BER of BPSK over the emulator's own fading, 10 dB",
        float(rayleigh_bit_error_rate("bpsk", 10.0)),
        5.0,
        _own_rayleigh,
    ),
    within_percent(
        "5",
        "BER of BPSK in Rician fading, K 5, 10 dB",
        float(rician_bit_error_rate("bpsk", 10.0, _RICE)),
        5.0,
        _rice,
    ),
    within_percent(
        "5",
        "outage 10 dB below the mean, Rice K 5",
        float(rician_outage(0.1, 1.0, _RICE)),
        2.0,
        _rice_outage,
    ),
    within_percent(
        "5",
        "the same in the emulator's own fading",
        float(rician_outage(0.1, 1.0, _RICE)),
        2.0,
        _own_rice_outage,
        is_quick=False,
    ),
    Check(
        row="6",
        what="largest error of Jakes's correlation, to 1.5 Doppler periods",
        expected=0.0,
        tolerance=0.03,
        measure=_jakes_error,
    ),
    within_percent(
        "7",
        "level crossings per Doppler period, half of rms",
        float(level_crossing_hz(1.0, _LEVEL)),
        3.0,
        lambda: _crossings()[0],
    ),
    within_percent(
        "7",
        "mean fade in Doppler periods, half of rms",
        float(fade_duration_s(1.0, _LEVEL)),
        3.0,
        lambda: _crossings()[1],
    ),
    Check(
        row="8",
        what="Kolmogorov's distance of |h|^2 from exponential (1 % level)",
        expected=0.0,
        tolerance=1.628 / math.sqrt(2000),
        measure=_exponential_distance,
    ),
)
