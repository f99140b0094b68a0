"""Frequency-selective fading slot by slot, a block of slots at a time: the same as asking, but faster.

A wave turns by the same angle in every slot, so its phases on a regular grid are products of two short
lists; the sines are taken once and a block of slots costs matrix products alone. Axes: `...` links; L taps;
W waves; F frequencies; slots are counted from time 0.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from channel.tdl import TappedDelayLine
from channel.values import Array, Complex, above

_STRIDE = 8
SLOTS = _STRIDE * _STRIDE
"""Slots in a block."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SlotGrid:
    """The response of tapped delay lines at the beginning of every slot, at fixed frequencies.

    Equals `line.response` at those times but for rounding (some 1e-12), which is the same whatever blocks
    are asked for, in whatever order: all products have the same shape. Raises BadParameter unless slot_s > 0.
    """

    line: TappedDelayLine
    slot_s: float
    frequency_hz_F: Array

    def __post_init__(self) -> None:
        above("slot_s", self.slot_s, 0.0)

    def block(self, number: int) -> Complex:
        """H (..., SLOTS, F) in slots number x SLOTS and the following ones."""
        start_s = number * SLOTS * self.slot_s
        anchor_W = self._strength_W * np.exp(1j * (self._turn_W * start_s + self._phase_W))
        taps = np.matmul(anchor_W[..., None, :] * self._coarse_W, self._fine_W)
        flat = taps.reshape(*taps.shape[:-2], SLOTS)
        response: Complex = np.matmul(np.swapaxes(flat, -1, -2), self._delay_LF)
        return response

    @cached_property
    def _turn_W(self) -> Array:
        """Radians a second of every wave (..., L, W + 1), the constant one last."""
        fading = self.line.fading
        cosine = np.concatenate([fading.cosine_W, fading.los_cosine[..., None]], axis=-1)
        turn: Array = 2.0 * math.pi * fading.doppler_hz[..., None] * cosine
        return turn

    @cached_property
    def _phase_W(self) -> Array:
        return np.concatenate([self.line.fading.phase_W, self.line.fading.los_phase[..., None]], axis=-1)

    @cached_property
    def _strength_W(self) -> Array:
        """Amplitudes (..., L, W + 1) whose squares sum to the power of each tap."""
        rice, waves = self.line.fading.k_ratio[..., None], self.line.fading.phase_W.shape[-1]
        diffuse = np.broadcast_to(np.sqrt(1.0 / ((rice + 1.0) * waves)), (*rice.shape[:-1], waves))
        parts = np.concatenate([diffuse, np.sqrt(rice / (rice + 1.0))], axis=-1)
        strength: Array = np.sqrt(self.line.power_L)[:, None] * parts
        return strength

    @cached_property
    def _coarse_W(self) -> Complex:
        """Turns (..., L, stride, W + 1) to every eighth slot of a block."""
        steps_s = np.arange(_STRIDE) * (_STRIDE * self.slot_s)
        return np.asarray(np.exp(1j * self._turn_W[..., None, :] * steps_s[:, None]))

    @cached_property
    def _fine_W(self) -> Complex:
        """Turns (..., L, W + 1, stride) from there to the slots that follow."""
        return np.asarray(np.exp(1j * self._turn_W[..., None] * (np.arange(_STRIDE) * self.slot_s)))

    @cached_property
    def _delay_LF(self) -> Complex:
        delayed = self.line.delay_s_L[:, None] * self.frequency_hz_F
        return np.asarray(np.exp(-2j * math.pi * delayed))
