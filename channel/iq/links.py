"""The links of a channel: paths that fade, recordings that are replayed, constant couplings.

Axes: P links; L paths; T times; U users; F bins of the frame; N nodes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from channel.core.arrays import Array, Complex
from channel.core.errors import BadParameter
from channel.iq.delay_filters import Samples, delay_filters
from channel.iq.overlap_save import Links, OverlapFrame, Pair
from channel.propagation.recorded_taps import NodeTaps
from channel.propagation.tdl import TappedDelayLine

_BATCH = 32
"""Knots whose fading is evaluated together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FadingLinks:
    """Links with a common power delay profile; `line` of None is one path without delay or fading.

    `amplitude` gives the amplitude (P,) of each link without fast fading, in received over sent full scales,
    at a time in seconds. `step_s` is the time between knots, infinite for links that never change.
    """

    pairs: Sequence[Pair]
    amplitude: Callable[[float], Array]
    line: TappedDelayLine | None
    rate_hz: float
    step_s: float

    def spectra(self, time_s: float, frame: OverlapFrame) -> Samples:
        """See Links."""
        delay_LF = self._delays(frame.size)
        scale_P = self.amplitude(time_s)[:, None]
        gain_PL = scale_P * (1.0 if self.line is None else self._gains(time_s))
        spectra: Samples = gain_PL.astype(np.complex64) @ delay_LF
        return spectra

    def _gains(self, time_s: float) -> Complex:
        assert self.line is not None
        if np.isinf(self.step_s):
            return self.line.taps(np.asarray([time_s]))[..., 0]
        batch, knot = divmod(round(time_s / self.step_s), _BATCH)
        return self._batch(batch)[..., knot]

    @cached_property
    def _batch(self) -> Callable[[int], Complex]:
        def batch(number: int) -> Complex:
            assert self.line is not None
            time_s_T = (number * _BATCH + np.arange(_BATCH, dtype=np.float64)) * self.step_s
            return self.line.taps(time_s_T)

        return lru_cache(maxsize=2)(batch)

    @cached_property
    def _delays(self) -> Callable[[int], Samples]:
        def delays(size: int) -> Samples:
            delay_s_L = np.zeros(1) if self.line is None else self.line.delay_s_L
            return delay_filters(delay_s_L * self.rate_hz, size)

        return lru_cache(maxsize=1)(delays)


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedLinks:
    """The links of `taps` that have power, from a node to another; `scale_NN` multiplies their gains."""

    taps: NodeTaps
    scale_NN: Array
    rate_hz: float

    @cached_property
    def pairs(self) -> Sequence[Pair]:
        power_NN = self.taps.power_NN * (1.0 - np.eye(self.taps.nodes))
        return [(int(sender), int(receiver)) for sender, receiver in np.argwhere(power_NN > 0.0)]

    def spectra(self, time_s: float, frame: OverlapFrame) -> Samples:
        """See Links."""
        # A nanosecond later, because the product of knot and step may fall just short of a tap time.
        since = (time_s + 1e-9) % float(self.taps.time_s_T[-1])
        row = int(np.searchsorted(self.taps.time_s_T[:-1], since, side="right")) - 1
        spectra = np.empty((len(self.pairs), frame.size), dtype=np.complex64)
        for link, (sender, receiver) in enumerate(self.pairs):
            gain_L = self.scale_NN[sender, receiver] * self.taps.gain_NNTL[sender, receiver, row]
            delay_L = self.taps.delay_s_NNTL[sender, receiver, row]
            spectra[link] = gain_L.astype(np.complex64) @ self._delays(delay_L.tobytes(), frame.size)
        return spectra

    @cached_property
    def _delays(self) -> Callable[[bytes, int], Samples]:
        def delays(delay_s_L: bytes, size: int) -> Samples:
            return delay_filters(np.frombuffer(delay_s_L) * self.rate_hz, size)

        return lru_cache(maxsize=256)(delays)


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedLinks:
    """All links of several parts."""

    parts: Sequence[Links]

    @cached_property
    def pairs(self) -> Sequence[Pair]:
        return [pair for part in self.parts for pair in part.pairs]

    def spectra(self, time_s: float, frame: OverlapFrame) -> Samples:
        """See Links."""
        return np.concatenate([part.spectra(time_s, frame) for part in self.parts])


def require_guard(delay_s: float, *, rate_hz: float, guard: int) -> None:
    """Raises BadParameter if the largest delay has more samples than the guard."""
    if delay_s * rate_hz > guard:
        raise BadParameter(
            f"the guard must have at least {int(np.ceil(delay_s * rate_hz))} samples for a path delayed by "
            f"{delay_s * 1e6:g} us at {rate_hz:g} samples/s, got {guard}"
        )
