"""What is wrong with what a radio hears, with the measured number and what to do."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly  # type: ignore[import-untyped]

from channel.iq.sample_format import LOUD
from channel.waveform.numerology import FFT_SIZES, Numerology
from channel.waveform.receiver import Receiver
from testbed.radio.probe.probe import ProbeReport
from testbed.radio.probe.sample_statistics import HUGE
from testbed.radio.sample_loss import MOST_LOST, slower

MOST_CLOCK_PPM = 40.0
_MOST_OFF_RATE = 0.01
_BUFFER_S = 0.1
"""Samples come in pieces of up to that, so a rate measured in a short time is as uncertain."""
_MOST_CLIPPED = 1e-3
_TINY = 1e-9
_SIGNAL_DB = 6.0
_FEW_DB = -60.0
_RATIOS = (Fraction(1, 2), Fraction(2), Fraction(4, 5), Fraction(5, 4), Fraction(1, 4), Fraction(4))


@dataclass(frozen=True)
class ProbeFinding:
    """A sentence; with one that `refuses`, a link over this radio is not worth a try."""

    text: str
    refuses: bool


def findings(report: ProbeReport, *, keeps_time: bool) -> list[ProbeFinding]:
    """All that is wrong; a radio that `keeps_time` has a clock of its own, and must keep its rate."""
    found = [ProbeFinding(text, True) for text in _of_values(report)]
    if any(one.refuses for one in found):
        return found
    found += [ProbeFinding(text, True) for text in _of_losses(report, keeps_time=keeps_time)]
    found += [ProbeFinding(text, True) for text in _of_offsets(report)]
    found += [ProbeFinding(text, False) for text in _of_levels(report)]
    if all(packet.payload is None and packet.units_UN is None for packet in report.packets):
        found.append(ProbeFinding(_of_silence(report), False))
    return found


def _of_values(report: ProbeReport) -> Iterator[str]:
    statistics = report.statistics
    if not statistics.count:
        yield "no samples came"
    elif statistics.unusable:
        yield (
            f"{statistics.unusable:,} samples are not finite or larger than {HUGE:g}: "
            "is this sc16, or of another byte order? have little-endian fc32"
        )
    elif statistics.peak > LOUD:
        yield f"samples of magnitude {statistics.peak:.3g}: is this sc16? have fc32"
    elif not statistics.peak:
        yield "all samples are 0: nothing is connected to this port, or the far side has not begun"
    elif statistics.peak < _TINY:
        yield f"samples of magnitude {statistics.peak:.3g}: is this sc16, or of another byte order?"


def _of_losses(report: ProbeReport, *, keeps_time: bool) -> Iterator[str]:
    rate_hz, measured_hz = report.tuning.rate_hz, report.measured_rate_hz
    if report.lost_share > MOST_LOST:
        lost = f"{100.0 * report.lost_share:.1f} % of the samples"
        yield (
            f"{lost} were lost in {report.radio.overflows} overflows at rate_hz = {rate_hz:g}: "
            f"try rate_hz = {slower(rate_hz, report.lost_share):g}"
        )
    tolerance = _MOST_OFF_RATE + _BUFFER_S / max(report.wall_s, _BUFFER_S)
    if keeps_time and abs(measured_hz - rate_hz) > tolerance * rate_hz:
        yield f"the device gives {measured_hz:.4g} samples a second, not rate_hz = {rate_hz:g}"


def _of_offsets(report: ProbeReport) -> Iterator[str]:
    if not report.packets:
        return
    spacing_hz = report.tuning.rate_hz / report.fft_size
    offset_hz = report.carrier_offset_hz
    if abs(offset_hz) > 0.5 * spacing_hz:
        yield (
            f"a carrier offset of {offset_hz:+.0f} Hz is more than half the subcarrier spacing, "
            f"{0.5 * spacing_hz:.0f} Hz: change frequency_hz by it, or use a higher rate_hz"
        )
    if abs(report.clock_ppm) > MOST_CLOCK_PPM:
        yield (
            f"sample clocks differ by {report.clock_ppm:+.0f} ppm, more than {MOST_CLOCK_PPM:g}: "
            "is a reference clock missing, or rate_hz not what the far side has?"
        )


def _of_levels(report: ProbeReport) -> Iterator[str]:
    statistics = report.statistics
    clipped = statistics.clipped / statistics.count
    if clipped > _MOST_CLIPPED:
        yield f"{100.0 * clipped:.1f} % of the samples are at full scale: lower the gain"
    if not report.packets and statistics.top_db < _FEW_DB:
        yield f"the level is only {statistics.top_db:.0f} dBFS: raise the gain"


def _of_silence(report: ProbeReport) -> str:
    counters, statistics = report.receiver, report.statistics
    if preambles := counters.packets + counters.bad_headers + counters.unsupported:
        return (
            f"{preambles:,} preambles but no whole packet: the SNR is too low, the samples are not I and Q "
            "(a stream argument?), or the far side has another version"
        )
    has_signal = statistics.top_db - statistics.floor_db > _SIGNAL_DB
    if other := _other_settings(report):
        return f"no preamble with these settings; the packets fit {other}"
    if has_signal:
        above_db = statistics.top_db - statistics.floor_db
        return (
            f"a signal {above_db:.0f} dB above the floor, but no preamble: has the far side the same "
            "rate_hz, frequency_hz and fft_size?"
        )
    return "no packet and no signal above the floor: does the far side send?"


def _other_settings(report: ProbeReport) -> str:
    """The subcarriers or rate with which packets are found in the first samples; empty for none."""
    for size in FFT_SIZES:
        if size != report.fft_size and Receiver(Numerology(fft_size=size)).push(report.first_B):
            return f"fft_size = {size}"
    for ratio in _RATIOS:
        other_B = resample_poly(report.first_B, ratio.numerator, ratio.denominator)
        receiver = Receiver(Numerology(fft_size=report.fft_size))
        if receiver.push(np.asarray(other_B, dtype=np.complex64)):
            return f"a far side with rate_hz = {report.tuning.rate_hz * float(ratio):g}"
    return ""
