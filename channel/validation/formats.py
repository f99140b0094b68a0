"""Rows 21, 26 and 27: analog symbols, IQ samples, and Colosseum's files."""

import tempfile
from pathlib import Path

import numpy as np

from channel.core.errors import BadParameter
from channel.phy.analog import complex_noise, lmmse, through_air, zero_forcing
from channel.phy.modulation import bit_error_rate
from channel.propagation.recorded_taps import NodeTaps
from channel.scenario import colosseum_file
from channel.scenario.colosseum import ChannelMatrix
from channel.validation.check import Check, rng_of, within_percent


def _analog_error() -> float:
    rng = rng_of("analog")
    sent = complex_noise(rng, (500_000,), 1.0)
    gain = np.ones(sent.shape, dtype=np.complex128)
    received = through_air(rng, sent, gain, power=10.0, noise_power=1.0)
    found = lmmse(received, gain, power=10.0, noise_power=1.0)
    return float((np.abs(found - sent) ** 2).mean() / (np.abs(sent) ** 2).mean())


def _iq_error_rate() -> float:
    """The BER of QPSK as IQ samples over the analog channel with known phase and hard decisions."""
    rng = rng_of("iq")
    bits = rng.integers(2, size=(2, 1_000_000))
    sent = ((1.0 - 2.0 * bits[0]) + 1j * (1.0 - 2.0 * bits[1])) / np.sqrt(2.0)
    gain = np.exp(2j * np.pi * rng.random(sent.shape))
    received = zero_forcing(
        through_air(rng, sent, gain, power=10.0**0.6, noise_power=1.0), gain, power=10.0**0.6
    )
    return float(((received.real < 0.0) != bits[0]).mean() + ((received.imag < 0.0) != bits[1]).mean()) / 2.0


def _taps(
    gain: float = 0.5, delay_s: float = 1e-7, end_s: float = 1.0, nodes: int = 3, taps: int = 4
) -> NodeTaps:
    shape = (nodes, nodes, 2, taps)
    return NodeTaps(
        time_s_T=np.asarray([0.0, end_s]),
        delay_s_NNTL=np.full(shape, delay_s),
        gain_NNTL=np.full(shape, gain, dtype=np.complex128),
    )


def _refused() -> float:
    """The number of violated limits that are refused."""
    over = (
        {"taps": 5},
        {"gain": 1.01},
        {"gain": 10.0 ** (-43.1 / 20.0)},
        {"delay_s": 5.12e-6},
        {"delay_s": 1.5e-8},
        {"end_s": 1.5},
        {"end_s": 1.0005},
        {"nodes": 53},
    )
    refused = 0
    for violation in over:
        try:
            ChannelMatrix(taps=_taps(**violation))
        except BadParameter:
            refused += 1
    return refused


def _round_trip() -> float:
    """The largest difference between a matrix and the one read back from its file."""
    rng = rng_of("colosseum")
    shape = (4, 4, 3, 4)
    taps = NodeTaps(
        time_s_T=np.asarray([0.0, 0.001, 1.0]),
        delay_s_NNTL=1e-8 * rng.integers(0, 512, shape).astype(np.float64),
        gain_NNTL=rng.uniform(0.01, 0.7, shape) * np.exp(2j * np.pi * rng.random(shape)),
    )
    with tempfile.TemporaryDirectory() as folder:
        colosseum_file.write(Path(folder) / "x.mat", ChannelMatrix(taps=taps))
        found = colosseum_file.read(Path(folder) / "x.mat").taps
    pairs = ((found.gain_NNTL, taps.gain_NNTL), (found.delay_s_NNTL * 1e6, taps.delay_s_NNTL * 1e6))
    return max(float(np.abs(one - other).max()) for one, other in pairs)


CHECKS: tuple[Check, ...] = (
    within_percent("21", "LMMSE error of analog symbols, 10 dB", 1 / 11, 1.0, _analog_error),
    within_percent(
        "26",
        "BER of QPSK as IQ samples, 6 dB a symbol",
        float(bit_error_rate("qpsk", 10.0**0.6 / 2.0)),
        2.0,
        _iq_error_rate,
    ),
    Check(
        row="27", what="violations of Colosseum's limits refused", expected=8, tolerance=0, measure=_refused
    ),
    Check(
        row="27",
        what="largest error of a matrix written and read",
        expected=0.0,
        tolerance=1e-12,
        measure=_round_trip,
    ),
)
