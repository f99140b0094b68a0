"""What radio theory says against what this package does: a table of checks, each with its tolerance.

Numbers of rows are those of the design's conformance table; rows that need a simulated decoder, real packets
or IQ samples stand elsewhere. Seeds are fixed, so a verdict never changes between runs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from channel.analog import complex_noise, lmmse, through_air
from channel.capacity import capacity, rayleigh_capacity
from channel.effective_sinr import eesm_db
from channel.fading import Fading, jakes_correlation, rayleigh_outage, rician_outage
from channel.fixed import FixedLink, Way
from channel.harq import arq_mean_tries, arq_residual
from channel.interference import poisson_coverage, rayleigh_coverage
from channel.link import Transfer
from channel.link_adaptation import OuterLoop
from channel.loss import GilbertElliott
from channel.modulation import bit_error_rate, rayleigh_bit_error_rate, rician_bit_error_rate
from channel.propagation import environment_named, free_space_db
from channel.queue import mean_wait_fixed_service, waits_s
from channel.rng import stream
from channel.scheduler import ProportionalFair, averaged
from channel.shadowing import ShadowField


@dataclass(frozen=True, kw_only=True)
class Check:
    """A closed form and a measurement; `tolerance` is absolute, in the unit of both."""

    row: str
    what: str
    expected: float
    tolerance: float
    measure: Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a check found."""

    row: str
    what: str
    expected: float
    measured: float
    tolerance: float

    @property
    def is_good(self) -> bool:
        """Whether the measurement lies within the tolerance."""
        return abs(self.measured - self.expected) <= self.tolerance


def verdict(check: Check) -> Verdict:
    """Measures."""
    return Verdict(
        row=check.row,
        what=check.what,
        expected=check.expected,
        measured=float(check.measure()),
        tolerance=check.tolerance,
    )


def fair_gain(users: int, *, slots: int = 3000, repeats: int = 200) -> tuple[float, float]:
    """Mean SNR of who is scheduled over the mean SNR, and the first user's share, by proportional fair.

    Independent Rayleigh fading and rates in proportion to the SNR. Many short runs side by side.
    """
    rng = stream(0, "conformance", "fair", users)
    mean = np.full((repeats, users), _harmonic(users) / users)
    gained, first = 0.0, 0
    for _ in range(slots):
        snr = rng.exponential(size=(repeats, users))
        winner = ProportionalFair().choose(snr[..., None], mean, 0)
        had = np.where(np.arange(users) == winner, snr, 0.0)
        gained += float(had.sum())
        first += int((winner == 0).sum())
        mean = averaged(mean, had, step_s=1.0, window_s=1000.0)
    return gained / (slots * repeats), first / (slots * repeats)


def _fair_gain(users: int) -> float:
    return fair_gain(users)[0]


def _harmonic(count: int) -> float:
    return sum(1.0 / number for number in range(1, count + 1))


def _loss_of_bursts() -> float:
    return 1.0 - float(GilbertElliott(leave_good=0.01, leave_bad=0.2).arrives(_rng("bursts"), 400_000).mean())


def _jakes_error() -> float:
    # One product a process has a deviation of up to 1: enough of them that four deviations fit the tolerance.
    lag_s = np.arange(0.0, 1.5, 0.05)
    gain = Fading.draw(_rng("jakes"), doppler_hz=1.0, shape=(20_000,), num_waves=16).gain(lag_s)
    found = (gain * np.conj(gain[:, :1])).mean(axis=0).real
    return float(np.abs(found - jakes_correlation(1.0, lag_s)).max())


def _shadow_correlation() -> float:
    products = []
    for number in range(300):
        field = ShadowField.draw(_rng("shadow", number), decorrelation_m=37.0, num_waves=64)
        track = np.stack([np.arange(0.0, 2000.0, 37.0), np.zeros(55)], axis=-1)
        value = field.at(track)
        products.append(float((value[1:] * value[:-1]).mean()))
    return float(np.mean(products))


def _outer_loop() -> float:
    rng, loop = _rng("outer"), OuterLoop()
    margin, failures, blocks = np.zeros(200), 0, 0
    for step in range(2000):
        # A threshold of 0 dB at which reports are 2 dB too good and err by 1 dB; steep, as a long code is.
        is_good = margin - 2.0 + rng.standard_normal(200) > 0.0
        margin = loop.updated_db(margin, is_good)
        if step >= 500:
            failures, blocks = failures + int((~is_good).sum()), blocks + 200
    return failures / blocks


def _analog_error() -> float:
    rng = _rng("analog")
    sent = complex_noise(rng, (500_000,), 1.0)
    gain = np.ones(sent.shape, dtype=np.complex128)
    received = through_air(rng, sent, gain, power=10.0, noise_power=1.0)
    found = lmmse(received, gain, power=10.0, noise_power=1.0)
    return float((np.abs(found - sent) ** 2).mean() / (np.abs(sent) ** 2).mean())


def _fixed_time() -> float:
    link = FixedLink(seed=0, up=Way(rate_bps=1e6, delay_s=0.01))
    request = Transfer(client=0, direction="up", sequence=0, payload_bytes=100_000, start_s=0.0)
    return link.transfer(request).finish_s


def _queue_wait() -> float:
    arrivals = np.cumsum(_rng("queue").exponential(1.0 / 0.8, size=1_000_000))
    return float(waits_s(arrivals, np.ones(arrivals.size)).mean())


def _rician_outage() -> float:
    fading = Fading.draw(_rng("rice"), doppler_hz=1.0, k_ratio=5.0, shape=(300_000,), num_waves=16)
    return float((np.abs(fading.gain(np.zeros(1))[:, 0]) ** 2 < 0.1).mean())


def _rng(*names: str | int) -> np.random.Generator:
    return stream(0, "conformance", *names)


def _path_loss(name: str, distance_m: float, is_los: bool) -> float:
    return float(environment_named(name).path_loss_db(distance_m, 3.5e9, is_los))


def _relative(row: str, what: str, expected: float, percent: float, measure: Callable[[], float]) -> Check:
    return Check(
        row=row, what=what, expected=expected, tolerance=abs(expected) * percent / 100.0, measure=measure
    )


CHECKS: tuple[Check, ...] = (
    _relative("1", "BER of QPSK, 4 dB", 0.01250, 0.1, lambda: float(bit_error_rate("qpsk", 10**0.4))),
    _relative("2", "BER of QPSK, 8 dB", 1.909e-4, 0.1, lambda: float(bit_error_rate("qpsk", 10**0.8))),
    _relative("3", "BER of 16QAM, 8 dB", 0.009247, 0.1, lambda: float(bit_error_rate("16qam", 10**0.8))),
    _relative("3", "BER of 64QAM, 12 dB", 0.009724, 0.1, lambda: float(bit_error_rate("64qam", 10**1.2))),
    _relative(
        "4", "BER in Rayleigh, 10 dB", 0.02327, 0.1, lambda: float(rayleigh_bit_error_rate("bpsk", 10.0))
    ),
    _relative(
        "5", "BER in Rice K=5, 10 dB", 0.003299, 0.1, lambda: float(rician_bit_error_rate("bpsk", 10.0, 5.0))
    ),
    _relative("5", "outage in Rice K=5, drawn", float(rician_outage(0.1, 1.0, 5.0)), 6.0, _rician_outage),
    Check(
        row="6",
        what="largest error of Jakes's correlation",
        expected=0.0,
        tolerance=0.03,
        measure=_jakes_error,
    ),
    _relative("9", "loss in Gilbert's bursts", 1 / 21, 5.0, _loss_of_bursts),
    _relative(
        "10",
        "SIR outage, 10 dB ratio",
        0.0909,
        0.1,
        lambda: 1 - float(rayleigh_coverage(1.0, math.inf, 10.0)),
    ),
    _relative("10", "outage in Rayleigh, 10 dB", 0.09516, 0.1, lambda: float(rayleigh_outage(0.1, 1.0))),
    Check(
        row="11",
        what="coverage among Poisson cells, 0 dB",
        expected=0.5601,
        tolerance=1e-4,
        measure=lambda: float(poisson_coverage(1.0)),
    ),
    *(
        _relative(
            "12",
            f"gain of proportional fair, {users} users",
            _harmonic(users),
            1.0,
            partial(_fair_gain, users),
        )
        for users in (2, 4, 8)
    ),
    _relative("12", "share of one of 4 users", 0.25, 2.0, lambda: fair_gain(4)[1]),
    Check(
        row="13",
        what="EESM of 0 and 10 dB, beta 4.27",
        expected=5.4034,
        tolerance=1e-4,
        measure=lambda: float(eesm_db(np.asarray([0.0, 10.0]), 4.27)),
    ),
    Check(
        row="14",
        what="free space, 1 m, 2.4 GHz",
        expected=40.05,
        tolerance=0.01,
        measure=lambda: float(free_space_db(1.0, 2.4e9)),
    ),
    Check(
        row="14",
        what="UMa LOS, 100 m",
        expected=83.14,
        tolerance=0.01,
        measure=lambda: _path_loss("urban-macro", 100.0, True),
    ),
    Check(
        row="14",
        what="UMi NLOS, 200 m",
        expected=115.23,
        tolerance=0.01,
        measure=lambda: _path_loss("urban-micro", 200.0, False),
    ),
    Check(
        row="14",
        what="InH NLOS, 20 m in space",
        expected=80.68,
        tolerance=0.01,
        measure=lambda: _path_loss("indoor-mixed-office", math.sqrt(20.0**2 - 2.0**2), False),
    ),
    Check(
        row="15",
        what="shadow correlation at 37 m",
        expected=math.exp(-1.0),
        tolerance=0.03,
        measure=_shadow_correlation,
    ),
    _relative("16", "capacity, 10 dB", 3.4594, 0.1, lambda: float(capacity(10.0))),
    _relative(
        "16", "ergodic capacity in Rayleigh, 10 dB", 2.9065, 0.1, lambda: float(rayleigh_capacity(10.0))
    ),
    Check(row="17", what="outer loop's error rate", expected=0.1, tolerance=0.005, measure=_outer_loop),
    _relative("18", "ARQ residual, p .3, 4 tries", 0.0081, 0.1, lambda: float(arq_residual(0.3, 4))),
    _relative("18", "ARQ mean tries", 1.417, 0.1, lambda: float(arq_mean_tries(0.3, 4))),
    _relative("21", "LMMSE error of analog symbols, 10 dB", 1 / 11, 1.0, _analog_error),
    Check(row="22", what="100 kB at 1 Mbit/s and 10 ms", expected=0.81, tolerance=1e-9, measure=_fixed_time),
    _relative("23", "M/D/1 wait, load 0.8", mean_wait_fixed_service(0.8, 1.0), 3.0, _queue_wait),
)
