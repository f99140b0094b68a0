"""What receivers hear besides the nodes: thermal noise, neighbouring cells and jammers.

Axes: N receivers; E emitters; B samples of a call.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array
from channel.iq.delay_filters import Samples
from channel.iq.noise import GRAIN, WhiteNoise
from channel.propagation.interference import Interferer, Jammer


class Levels(Protocol):
    """Powers at the receivers in units of their full scale; they change from one `update` to the next."""

    def update(self, time_s: float) -> int:
        """The number of the update that holds at this time."""
        ...

    def floor_N(self, update: int) -> Array:
        """The power of noise and of interference that is always on."""
        ...

    def gain_EN(self, update: int) -> Array:
        """The received power per watt radiated by each emitter."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class ConstantLevels:
    """Levels that do not change; `gain` (E, N) has no rows without emitters."""

    floor: Array
    gain: Array

    def update(self, time_s: float) -> int:
        return 0

    def floor_N(self, update: int) -> Array:
        return self.floor

    def gain_EN(self, update: int) -> Array:
        return self.gain


class Disturbance:
    """Gaussian noise and interference, a function of the sample number.

    An emitter is one waveform, white and Gaussian, that every receiver hears. Its power beyond the constant
    part, `min_w`, is read at the beginning of each slot and held, as in the packet-level model. Levels are
    those at the beginning of a grain of samples.
    """

    def __init__(
        self, *, seed: int, rate_hz: float, slot_s: float, levels: Levels, emitters: Sequence[Interferer]
    ) -> None:
        receivers = levels.floor_N(0).size
        self._levels, self._emitters = levels, tuple(emitters)
        self._rate_hz, self._slot_s = rate_hz, slot_s
        self._slots_per_sample = 1.0 / (slot_s * rate_hz)
        self._noise = [WhiteNoise(seed, "iq", "noise", node) for node in range(receivers)]
        self._varying = [number for number, one in enumerate(self._emitters) if not _is_steady(one)]
        self._waveforms = [WhiteNoise(seed, "iq", "emitter", number) for number in range(len(self._emitters))]

    def add(self, arrived_NB: Samples, start: int) -> None:
        """Adds it to the samples (N, B) from number `start` on."""
        begin, stop = start, start + arrived_NB.shape[1]
        while begin < stop:
            update = self._update(begin)
            end = stop if self._update(stop - 1) == update else min(begin - begin % GRAIN + GRAIN, stop)
            self._add(arrived_NB[:, begin - start : end - start], begin, update)
            begin = end

    def _update(self, sample: int) -> int:
        return self._levels.update(sample // GRAIN * GRAIN / self._rate_hz)

    def _add(self, arrived_NB: Samples, start: int, update: int) -> None:
        """The same within one update of the levels."""
        count = arrived_NB.shape[1]
        floor_N, gain_EN = self._amplitudes(update)
        for node, noise in enumerate(self._noise):
            arrived_NB[node] += floor_N[node] * noise.samples(start, count)
        for number in self._varying:
            strength_B = self._strength(number, start, count)
            if strength_B is not None:
                waveform_B = strength_B * self._waveforms[number].samples(start, count)
                for node, gain in enumerate(gain_EN[number]):
                    arrived_NB[node] += gain * waveform_B

    @cached_property
    def _amplitudes(self) -> Callable[[int], tuple[NDArray[np.float32], NDArray[np.float32]]]:
        def amplitudes(update: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            floor_N, gain_EN = self._levels.floor_N(update), self._levels.gain_EN(update)
            return np.sqrt(floor_N).astype(np.float32), np.sqrt(gain_EN).astype(np.float32)

        return lru_cache(maxsize=2)(amplitudes)

    def _strength(self, number: int, start: int, count: int) -> NDArray[np.float32] | None:
        """The root of an emitter's power beyond `min_w` in each sample (B,), or (1,); None for silence."""
        first, last = self._slot(start), self._slot(start + count - 1)
        root_S = [self._root_w(number, slot) for slot in range(first, last + 1)]
        if not any(root_S):
            return None
        if first == last:
            return np.asarray(root_S, dtype=np.float32)
        slot_B = np.floor((np.arange(start, start + count) + 0.5) * self._slots_per_sample).astype(np.int64)
        strength_B: NDArray[np.float32] = np.asarray(root_S, dtype=np.float32)[slot_B - first]
        return strength_B

    def _slot(self, sample: int) -> int:
        # Half a sample later, because the product of slot and rate may fall just short of a sample.
        return int((sample + 0.5) * self._slots_per_sample)

    @cached_property
    def _root_w(self) -> Callable[[int, int], float]:
        def root_w(number: int, slot: int) -> float:
            emitter = self._emitters[number]
            return float(np.sqrt(emitter.power_w(np.asarray(slot * self._slot_s)) - emitter.min_w))

        return lru_cache(maxsize=4 * len(self._emitters) + 4)(root_w)


def _is_steady(emitter: Interferer) -> bool:
    """Whether all of its power is always on, and so part of the floor."""
    return isinstance(emitter, Jammer) and emitter.min_w == emitter.on_w


def thermal_levels(power_N: Array) -> ConstantLevels:
    """Levels of noise alone, its power (N,) in units of full scale."""
    return ConstantLevels(floor=np.asarray(power_N, dtype=np.float64), gain=np.empty((0, np.size(power_N))))
