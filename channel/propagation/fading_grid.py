"""Fast evaluation of frequency-selective fading on a grid of slots, one block of slots at a time.

Phases change little between slots, so the response is evaluated every few slots and interpolated; from
sample to sample each wave rotates by a constant angle, so most sines become products. Axes: `...` or U
links; L taps; P = L x U; W waves; F frequencies; K samples; B slots of a block; C columns, frequency x U +
link. Slots are counted from time 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from channel.core.arrays import Array, Complex, above
from channel.propagation.tdl import TappedDelayLine

SLOTS = 64
"""Slots in a block."""

_SAMPLES = 16
"""Samples of one run, computed by rotation from its first; also the number of interpolation points."""

_RUNS = 8
"""Every `_RUNS`-th run starts from exact phases; those between are rotated from the previous run."""

_PATHS, _COLUMNS = 600, 4096
"""Taps of links, and columns, processed at once, so that they fit into the processor's cache."""

_RAYLEIGH_BOUND = 60.0
"""P(|H|^2 > x) is exp(-x) for a Rayleigh channel of mean power 1, and less for Rice and for sums of waves."""

_MAX_RADIANS = 0.5
"""The largest rotation of a wave from sample to sample. Interpolation through M samples, near their middle,
has an error of (turn^M / M!) ((M - 1)!! / 2^(M / 2))^2 of a wave: 5e-11."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotGrid:
    """The response of tapped delay lines at the start of every slot, at fixed frequencies.

    Equals `line.response` at those times within 1e-9, and does not depend on which blocks are evaluated in
    which order. Raises BadParameter unless slot_s > 0.
    """

    line: TappedDelayLine
    slot_s: float
    frequency_hz_F: Array

    def __post_init__(self) -> None:
        above("slot_s", self.slot_s, 0.0)

    def block(self, number: int) -> Complex:
        """H (..., SLOTS, F) in slots number x SLOTS and the following ones."""
        real, imaginary = self._parts(number, slice(None))
        shape = (SLOTS, self.frequency_hz_F.size, -1)
        response = np.moveaxis((real + 1j * imaginary).reshape(shape), -1, 0)
        return response.reshape(*self.line.fading.doppler_hz.shape[:-1], *response.shape[1:])

    @property
    def max_power(self) -> Array:
        """An upper bound (U,) of |H|^2: all waves in phase, or Rayleigh's level of probability 1e-26."""
        fading, waves = self.line.fading, self.line.fading.phase_W.shape[-1]
        in_step_L = (np.sqrt(waves) + np.sqrt(fading.k_ratio)) / np.sqrt(fading.k_ratio + 1.0)
        peak: Array = (np.sqrt(self.line.power_L) * in_step_L).sum(axis=-1) ** 2
        return np.minimum(peak, _RAYLEIGH_BOUND)

    def power(self, number: int, out: Array | None = None) -> Array:
        """|H|^2 (SLOTS, F, U) in the same slots, leading axes flattened; written to `out` if given."""
        groups, users = self.frequency_hz_F.size, self._turn_W.shape[-1]
        power = np.empty((SLOTS, groups, users)) if out is None else out
        flat = power.reshape(SLOTS, -1)
        assert np.may_share_memory(flat, power), "out must be contiguous within a slot"
        for first in range(0, groups * users, _COLUMNS):
            here = slice(first, first + _COLUMNS)
            real, imaginary = self._parts(number, here)
            np.add(np.square(real, out=real), np.square(imaginary, out=imaginary), out=flat[:, here])
        return power

    def _parts(self, number: int, columns: slice) -> tuple[Array, Array]:
        """Real and imaginary parts (SLOTS, columns) of some columns of F x U."""
        weight_BK = self._weight_BK
        first = number * SLOTS // self._stride - (_SAMPLES // 2 - 1 if self._stride > 1 else 0)
        end = first + weight_BK.shape[1]
        parts = []
        for run in range(first // _SAMPLES, (end - 1) // _SAMPLES + 1):
            rows = slice(max(first - run * _SAMPLES, 0), end - run * _SAMPLES)
            parts.append(self._cached_run(run)[rows, :, columns])
        samples_K2C = np.concatenate(parts)
        if self._stride > 1:
            samples_K2C = (weight_BK @ samples_K2C.reshape(len(samples_K2C), -1)).reshape(SLOTS, 2, -1)
        return samples_K2C[:, 0], samples_K2C[:, 1]

    @cached_property
    def _stride(self) -> int:
        """Slots from sample to sample: the largest power of two that the fastest wave permits."""
        fastest = float(np.abs(self._turn_W).max()) * self.slot_s
        allowed = (2**power for power in range(SLOTS.bit_length() - 1, -1, -1))
        return next((stride for stride in allowed if stride * fastest <= _MAX_RADIANS), 1)

    @cached_property
    def _weight_BK(self) -> Array:
        """Interpolation weights in each slot of a block, for samples from `_SAMPLES` / 2 - 1 before it.

        Lagrange polynomials through the `_SAMPLES` samples around a slot.
        """
        stride, node = self._stride, np.arange(_SAMPLES, dtype=np.float64)
        if stride == 1:
            return np.eye(SLOTS)
        weight = np.zeros((SLOTS, SLOTS // stride + _SAMPLES - 1))
        others = ~np.eye(_SAMPLES, dtype=np.bool_)
        apart = np.prod(np.where(others, node[:, None] - node, 1.0), axis=1)
        for slot in range(SLOTS):
            place = slot % stride / stride + _SAMPLES // 2 - 1
            begin = slot // stride
            weight[slot, begin : begin + _SAMPLES] = (
                np.prod(np.where(others, place - node, 1.0), axis=1) / apart
            )
        return weight

    @cached_property
    def _cached_run(self) -> Callable[[int], Array]:
        # Neighbouring blocks share samples.
        return lru_cache(maxsize=SLOTS // _SAMPLES if self._stride == 1 else 3)(self._run)

    def _run(self, run: int) -> Array:
        """Real and imaginary parts (_SAMPLES, 2, F x U) of the samples from run x _SAMPLES on."""
        begin_W = self._begin(run)
        begin_WP, near_WP = (turn_W.reshape(len(turn_W), -1) for turn_W in (begin_W, self._near_W))
        taps = np.empty((_SAMPLES, begin_WP.shape[1]), dtype=np.complex128)
        for first in range(0, taps.shape[1], _PATHS):
            here = slice(first, first + _PATHS)
            wave, near = begin_WP[:, here].copy(), near_WP[:, here].copy()
            for sample in range(_SAMPLES):
                np.add.reduce(wave, axis=0, out=taps[sample, here])
                wave *= near
        samples = np.empty((_SAMPLES, 2, self.frequency_hz_F.size, begin_W.shape[-1]))
        for parts_2FU, taps_P in zip(samples, taps, strict=True):
            response = self._delay_FL @ taps_P.reshape(begin_W.shape[1:])
            parts_2FU[0], parts_2FU[1] = response.real, response.imag
        return samples.reshape(_SAMPLES, 2, -1)

    def _begin(self, run: int) -> Complex:
        """The waves (W, L, U) with their amplitudes at the start of a run, valid until the next call.

        A run starts one rotation after the previous one.
        """
        exact = run - run % _RUNS
        known = next(iter(self._newest_begin), None)
        if known is None or not exact <= known <= run:
            angle = self._turn_W * (exact * self._run_s) + self._phase_W
            self._newest_begin.clear()
            known, self._newest_begin[exact] = exact, self._strength_W * _unit(angle)
        wave = self._newest_begin.pop(known)
        for _ in range(known, run):
            wave *= self._far_W
        self._newest_begin[run] = wave
        return wave

    @cached_property
    def _newest_begin(self) -> dict[int, Complex]:
        """At most one run and its first waves, whose memory is used again."""
        return {}

    @cached_property
    def _run_s(self) -> float:
        return _SAMPLES * self._stride * self.slot_s

    @cached_property
    def _near_W(self) -> Complex:
        """Rotation from sample to sample."""
        return _unit(self._turn_W * (self._stride * self.slot_s))

    @cached_property
    def _far_W(self) -> Complex:
        """Rotation from run to run."""
        return _unit(self._turn_W * self._run_s)

    @cached_property
    def _turn_W(self) -> Array:
        """Angular frequency in rad/s of every wave (W, L, U), the line-of-sight waves last, if any."""
        fading = self.line.fading
        cosine = self._with_constant(fading.cosine_W, fading.los_cosine)
        return _waves_first(2.0 * math.pi * fading.doppler_hz[..., None] * cosine)

    @cached_property
    def _phase_W(self) -> Array:
        fading = self.line.fading
        return _waves_first(self._with_constant(fading.phase_W, fading.los_phase))

    @cached_property
    def _strength_W(self) -> Array:
        """Amplitudes (W, L, U) whose squares sum to the power of each tap."""
        rice, waves = self.line.fading.k_ratio, self.line.fading.phase_W.shape[-1]
        diffuse = np.repeat(np.sqrt(1.0 / ((rice + 1.0) * waves))[..., None], waves, axis=-1)
        parts = self._with_constant(diffuse, np.sqrt(rice / (rice + 1.0)))
        return _waves_first(np.sqrt(self.line.power_L)[:, None] * parts)

    def _with_constant(self, diffuse_W: Array, constant: Array) -> Array:
        if not self.line.fading.k_ratio.any():
            return diffuse_W
        return np.concatenate([diffuse_W, constant[..., None]], axis=-1)

    @cached_property
    def _delay_FL(self) -> Complex:
        delayed = self.frequency_hz_F[:, None] * self.line.delay_s_L
        return _unit(-2.0 * math.pi * delayed)


def _unit(angle: Array) -> Complex:
    """exp(j angle)."""
    turned = np.empty(angle.shape, dtype=np.complex128)
    np.cos(angle, out=turned.real)
    np.sin(angle, out=turned.imag)
    return turned


def _waves_first(values_W: Array) -> Array:
    """(..., L, W) as (W, L, U)."""
    flat = values_W.reshape(-1, *values_W.shape[-2:])
    return np.ascontiguousarray(flat.T)
