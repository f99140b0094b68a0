"""Fractional delays as short filters, given by their frequency responses.

Axes: L delays; F bins of the frame.
"""

import math

import numpy as np
import scipy.fft  # type: ignore[import-untyped]
from numpy.typing import NDArray
from scipy.special import i0  # type: ignore[import-untyped]

from channel.core.arrays import Array

Samples = NDArray[np.complex64]
"""Complex baseband samples, or their spectra."""

HALF = 32
"""The filter of a delay has its taps within this number of samples before and after the delay."""

_SHAPE = 10.0
"""Kaiser's shape parameter: errors of -100 dB up to 90 % of the band with 2 HALF taps (Kaiser, 1974)."""


def delay_filters(delay_L: Array, size: int, *, reach: int = HALF) -> Samples:
    """The responses (L, F) of delays (L,) in samples, each with an additional delay of `reach`.

    The phase ramp exp(-j 2 pi f delay), whose impulse response sinc(n - delay) has no end, is tapered by a
    Kaiser window around the delay. The filter is thus causal and finite: with overlapping frames the
    convolution is exact and does not depend on where the frames begin. `delay_L` must lie in
    [-(reach - HALF), size - reach - HALF].
    """
    away_LS = np.arange(size) - reach - np.asarray(delay_L, dtype=np.float64)[:, None]
    inside = np.abs(away_LS) < HALF
    root = np.sqrt(np.where(inside, 1.0 - (away_LS / HALF) ** 2, 0.0))
    impulse = np.where(inside, np.sinc(away_LS) * i0(_SHAPE * root) / i0(_SHAPE), 0.0)
    spectrum: Samples = scipy.fft.fft(impulse, axis=-1).astype(np.complex64)
    return spectrum


def fast_size(at_least: int) -> int:
    """The next frame size with a fast transform."""
    return int(scipy.fft.next_fast_len(at_least))


def last_fast_size(at_most: int) -> int:
    """The largest frame size up to this one with a fast transform."""
    return int(scipy.fft.prev_fast_len(at_most))


def unit_phasor(cycles: Array) -> Samples:
    """exp(j 2 pi cycles) in single precision; the phase is reduced in double precision first."""
    angle = (2.0 * math.pi * (cycles - np.floor(cycles))).astype(np.float32)
    turned = np.empty(angle.shape, dtype=np.complex64)
    np.cos(angle, out=turned.real)
    np.sin(angle, out=turned.imag)
    return turned
