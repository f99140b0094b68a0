"""Time-varying convolution of the samples of N nodes with the responses of all links between them.

Overlap-save: a frame of F samples, of which the first `overlap` are the past, is transformed, multiplied by
the responses, and transformed back. Within a segment the output fades linearly from the response of its
start to that of its end, so that every gain is linear in time.

Axes: N nodes; B samples of a call; P links, pairs (sender, receiver); F bins of the frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
import scipy.fft  # type: ignore[import-untyped]

from channel.core.arrays import Array
from channel.iq.delay_filters import HALF, Samples, delay_filters
from channel.iq.knots import Knots

Pair = tuple[int, int]
"""Sender and receiver of a link."""

DRIFT_RANGE = 16.0
"""The delay between two nodes whose sample clocks differ runs through this number of samples, then slips."""
DRIFT_STEP = 0.02
"""The largest change of that delay within a block: an error of -70 dB."""


class Links(Protocol):
    """The responses of all links as functions of time."""

    @property
    def pairs(self) -> Sequence[Pair]: ...

    def spectra(self, time_s: float, frame: "OverlapFrame") -> Samples:
        """The responses (P, F), delayed by `HALF` samples more than the links."""
        ...


@dataclass(frozen=True, kw_only=True)
class OverlapFrame:
    """`block` new samples after `overlap` old ones; `reach` is the delay that makes every filter causal.

    `guard` is the largest delay of a link in samples. With sample clocks that differ (`drifts`) the filter
    of the link is followed by that of the drift.
    """

    block: int
    guard: int
    drifts: bool = False

    @property
    def reach(self) -> int:
        return HALF + (int(DRIFT_RANGE) // 2 + 1 + HALF if self.drifts else 0)

    @property
    def overlap(self) -> int:
        return self.guard + 2 * self.reach

    @property
    def size(self) -> int:
        return self.block + self.overlap


@dataclass(frozen=True, kw_only=True, eq=False)
class _Segment:
    """Samples [start, stop); the weight of `last_PF` runs from `weight` in steps of `slope` per sample."""

    start: int
    stop: int
    first_PF: Samples
    last_PF: Samples | None
    weight: float
    slope: float


class OverlapSegments:
    """Cuts time at the knots and at multiples of the block, and has the responses of each part."""

    def __init__(
        self, links: Links, knots: Knots, frame: OverlapFrame, *, is_held: bool, rate_hz: float, ppm_N: Array
    ) -> None:
        self._links, self._knots, self._frame = links, knots, frame
        self._is_held, self._rate_hz = is_held, rate_hz
        # The receiver's clock against the sender's: a receiver that samples faster hears everything later.
        self._drift_P = np.asarray([1e-6 * (ppm_N[there] - ppm_N[here]) for here, there in links.pairs])

    def at(self, sample: int) -> _Segment:
        """The segment that has this sample."""
        found = self._plain(sample)
        return self._drifted(found) if self._drift_P.any() else found

    def _plain(self, sample: int) -> _Segment:
        knot, block = self._knots.before(sample), self._frame.block
        begin, end = self._knots.sample(knot), self._knots.sample(knot + 1)
        start = max(begin, sample - sample % block)
        is_constant = self._is_held or end - begin > 1 << 60
        slope = 0.0 if is_constant else 1.0 / (end - begin)
        return _Segment(
            start=start,
            stop=min(end, sample - sample % block + block),
            first_PF=self._spectra(knot),
            last_PF=None if is_constant else self._spectra(knot + 1),
            weight=(start - begin) * slope,
            slope=slope,
        )

    @cached_property
    def _spectra(self) -> Callable[[int], Samples]:
        def spectra(knot: int) -> Samples:
            return self._links.spectra(self._knots.time_s(knot), self._frame)

        return lru_cache(maxsize=3)(spectra)

    def _drifted(self, segment: _Segment) -> _Segment:
        """The same with the delays of the sample clocks at its start and end."""
        here_P = self._drift_P * segment.start
        here_P = here_P - DRIFT_RANGE * np.round(here_P / DRIFT_RANGE)
        count = segment.stop - segment.start
        parts = []
        for delay_P, weight in (
            (here_P, segment.weight),
            (here_P + self._drift_P * count, segment.weight + segment.slope * count),
        ):
            plain = segment.first_PF
            if segment.last_PF is not None:
                plain = plain + np.float32(weight) * (segment.last_PF - plain)
            parts.append(plain * delay_filters(delay_P, self._frame.size, reach=self._frame.reach - HALF))
        return _Segment(
            start=segment.start,
            stop=segment.stop,
            first_PF=parts[0],
            last_PF=parts[1],
            weight=0.0,
            slope=1.0 / count,
        )


class OverlapSave:
    """The convolution as a stream: as many samples out as in, `frame.reach` samples late."""

    def __init__(
        self, nodes: int, pairs: Sequence[Pair], segments: OverlapSegments, frame: OverlapFrame
    ) -> None:
        self._segments, self._frame = segments, frame
        self._links_to = [
            [(link, sender) for link, (sender, to) in enumerate(pairs) if to == receiver]
            for receiver in range(nodes)
        ]
        self._now = 0
        self._segment = segments.at(0)
        self._past_NF = np.zeros((nodes, frame.size), dtype=np.complex64)
        self._scratch_F = np.empty(frame.size, dtype=np.complex64)
        self._count_F = np.arange(frame.size, dtype=np.float32)

    def step(self, sent_NB: Samples) -> Samples:
        """What arrives (N, B) while these samples (N, B) are sent."""
        arrived_NB = np.empty(sent_NB.shape, dtype=np.complex64)
        done = 0
        while done < sent_NB.shape[1]:
            if self._now == self._segment.stop:
                self._move()
            count = min(self._segment.stop - self._now, sent_NB.shape[1] - done)
            at = self._frame.overlap + self._now - self._segment.start
            self._past_NF[:, at : at + count] = sent_NB[:, done : done + count]
            self._convolve(at, arrived_NB[:, done : done + count])
            self._now, done = self._now + count, done + count
        return arrived_NB

    def _move(self) -> None:
        """Begins the next segment; its frame starts with the last `overlap` samples."""
        used, overlap = self._segment.stop - self._segment.start, self._frame.overlap
        self._past_NF[:, :overlap] = self._past_NF[:, used : used + overlap].copy()
        self._past_NF[:, overlap:] = 0.0
        self._segment = self._segments.at(self._now)

    def _convolve(self, at: int, out_NB: Samples) -> None:
        segment, here = self._segment, slice(at, at + out_NB.shape[1])
        if segment.last_PF is None:
            (first_NF,) = self._arrived([segment.first_PF])
            out_NB[:] = first_NF[:, here]
            return
        first_NF, last_NF = self._arrived([segment.first_PF, segment.last_PF])
        begin = at - self._frame.overlap
        ramp_B = self._count_F[begin : begin + out_NB.shape[1]] * np.float32(segment.slope)
        np.subtract(last_NF[:, here], first_NF[:, here], out=out_NB)
        out_NB *= ramp_B + np.float32(segment.weight)
        out_NB += first_NF[:, here]

    def _arrived(self, responses: Sequence[Samples]) -> Samples:
        """For each of the responses (P, F) the sum over senders of spectrum times response, back in time."""
        spectrum_NF = scipy.fft.fft(self._past_NF, axis=-1)
        arrived = np.empty((len(responses), *spectrum_NF.shape), dtype=np.complex64)
        for mixed_NF, response_PF in zip(arrived, responses, strict=True):
            for receiver, links in enumerate(self._links_to):
                mixed_F = mixed_NF[receiver]
                if not links:
                    mixed_F[:] = 0.0
                for number, (link, sender) in enumerate(links):
                    out_F = self._scratch_F if number else mixed_F
                    np.multiply(spectrum_NF[sender], response_PF[link], out=out_F)
                    if number:
                        mixed_F += out_F
        back: Samples = scipy.fft.ifft(arrived, axis=-1, overwrite_x=True)
        return back
