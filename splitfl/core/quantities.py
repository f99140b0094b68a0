"""Formats quantities with three significant figures, an SI prefix and a unit."""

import math

from splitfl.core.metrics import METRICS

PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def bytes_text(count: float) -> str:
    """`12.3 MB`: SI prefixes, a kilobyte is 1,000 bytes."""
    return scaled(count, "B")


def flops_text(count: float) -> str:
    """`1.20 TFLOP`: floating-point operations, not a rate."""
    return scaled(count, "FLOP")


def rate_text(rate_bps: float) -> str:
    """`20.0 Mbit/s`."""
    return scaled(rate_bps, "bit/s")


def seconds_text(seconds: float) -> str:
    """`850 ms`, `12.3 s`, `4 min 05 s` or `2 h 07 min`."""
    if not math.isfinite(seconds):
        return f"{seconds} s"
    if round(seconds) >= 3600:
        minutes = round(seconds / 60)
        return f"{minutes // 60} h {minutes % 60:02d} min"
    if round(seconds) >= 100:
        return f"{round(seconds) // 60} min {round(seconds) % 60:02d} s"
    return scaled(seconds * 1e3, "ms", prefixes=()) if 0 < seconds < 1 else scaled(seconds, "s", prefixes=())


def percent_text(ratio: float) -> str:
    """`71.2 %`, of a ratio."""
    return f"{100 * ratio:.1f} %"


def metric_text(name: str, value: float) -> str:
    """A metric's value: a share in per cent, perplexity with two decimals, anything else with three."""
    if METRICS[name].is_share:
        return percent_text(value)
    return f"{value:.2f}" if name == "perplexity" else f"{value:.3f}"


def scaled(value: float, unit: str, prefixes: tuple[tuple[float, str], ...] = PREFIXES) -> str:
    """The value with three significant figures and the prefix that makes it less than 1,000."""
    if not math.isfinite(value):
        return f"{value} {unit}"
    for factor, prefix in prefixes:
        if float(f"{abs(value):.3g}") >= factor:
            return f"{_three_figures(value / factor)} {prefix}{unit}"
    return f"{_three_figures(value)} {unit}"


def _three_figures(value: float) -> str:
    magnitude = float(f"{abs(value):.3g}")
    if value == round(value) and magnitude < 1000:
        return f"{value:.0f}"
    return f"{value:.{2 if magnitude < 10 else 1 if magnitude < 100 else 0}f}"
