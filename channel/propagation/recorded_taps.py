"""Recorded multipath taps between nodes (complex gains and delays over time), replayed slot by slot.

Axes: N nodes, the sender first; T times; L taps; U users; F frequencies. Node 0 is the base station.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Complex, above, at_least
from channel.core.errors import BadParameter
from channel.core.input_files import arrays_of
from channel.propagation.fading_grid import SLOTS


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeTaps:
    """Piecewise constant complex gains `gain_NNTL` with delays `delay_s_NNTL`, each from its `time_s_T` on.

    Times start at 0 and increase; the last one is the period after which the taps repeat, so its own row is
    not used. Raises BadParameter for shapes that do not match, fewer than 2 nodes or times, times that do
    not increase, negative delays, and values that are not finite.
    """

    time_s_T: Array
    delay_s_NNTL: Array
    gain_NNTL: Complex

    def __post_init__(self) -> None:
        shape = np.shape(self.gain_NNTL)
        if len(shape) != 4 or shape[0] != shape[1] or shape[0] < 2 or not shape[3]:
            raise BadParameter(f"gains must be (nodes, nodes, times, taps) of at least 2 nodes, got {shape}")
        if np.shape(self.delay_s_NNTL) != shape:
            raise BadParameter(
                f"delays must have the gains' shape {shape}, got {np.shape(self.delay_s_NNTL)}"
            )
        if np.shape(self.time_s_T) != shape[2:3] or shape[2] < 2:
            raise BadParameter(f"times must be {shape[2]} and at least 2, got {np.shape(self.time_s_T)}")
        back = np.flatnonzero(np.diff(self.time_s_T) <= 0.0)
        if back.size:
            first, then = self.time_s_T[back[0]], self.time_s_T[back[0] + 1]
            raise BadParameter(f"times must increase, got {then:g} after {first:g} in row {back[0] + 1}")
        if self.time_s_T[0] != 0.0:
            raise BadParameter(f"times must start at 0, got {self.time_s_T[0]:g}")
        at_least("delays", self.delay_s_NNTL, 0.0)
        above("gains", np.abs(self.gain_NNTL), -1.0)

    @property
    def nodes(self) -> int:
        """The number of nodes, the base station included."""
        return int(self.gain_NNTL.shape[0])

    @property
    def users(self) -> int:
        """The number of nodes without the base station."""
        return self.nodes - 1

    @property
    def power_NN(self) -> Array:
        """The mean power (N, N) of each link: the sum over taps of |h|^2, averaged over time."""
        share = np.diff(self.time_s_T) / self.time_s_T[-1]
        power: Array = (np.abs(self.gain_NNTL[:, :, :-1]) ** 2).sum(axis=-1) @ share
        return power

    def users_power(self, direction: str, users: int) -> Array:
        """`power_NN` of the links (U,) between the first users and the base station.

        Raises BadParameter for more users than nodes, and for a user whose link has no power.
        """
        if users > self.users:
            raise BadParameter(f"users must be at most {self.users}, all nodes but one, got {users}")
        power: Array = (
            self.power_NN[1 : users + 1, 0] if direction == "up" else self.power_NN[0, 1 : users + 1]
        )
        if not np.all(power > 0.0):
            silent = int(np.flatnonzero(power <= 0.0)[0])
            raise BadParameter(
                f"every user's taps must have a power above 0, got 0 for user {silent}, direction {direction}"
            )
        return power

    def replay(self, direction: str, users: int, *, slot_s: float, frequency_hz_F: Array) -> "TapReplay":
        """The links of the first users with the base station, scaled to mean power 1; errors as above."""
        mean_U = self.users_power(direction, users)
        chosen = (slice(1, users + 1), 0) if direction == "up" else (0, slice(1, users + 1))
        return TapReplay(
            time_s_T=self.time_s_T,
            delay_s_UTL=self.delay_s_NNTL[chosen],
            gain_UTL=self.gain_NNTL[chosen] / np.sqrt(mean_U)[:, None, None],
            slot_s=slot_s,
            frequency_hz_F=frequency_hz_F,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class TapReplay:
    """The users' frequency responses at the start of every slot; periodic with the last time."""

    time_s_T: Array
    delay_s_UTL: Array
    gain_UTL: Complex
    slot_s: float
    frequency_hz_F: Array

    def block(self, number: int) -> Complex:
        """H (U, SLOTS, F) in slots number x SLOTS and the following ones, as `SlotGrid` gives them."""
        time_s_B: Array = (number * SLOTS + np.arange(SLOTS, dtype=np.float64)) * self.slot_s
        return self._response_UF(self._row(time_s_B))

    @property
    def max_power(self) -> Array:
        """An upper bound (U,) of |H|^2: all taps in phase."""
        peak: Array = (np.abs(self.gain_UTL).sum(axis=-1) ** 2).max(axis=-1)
        return peak

    def power(self, number: int, out: Array | None = None) -> Array:
        """|H|^2 (SLOTS, F, U) in the same slots; written to `out` if given."""
        response = np.moveaxis(self.block(number), 0, -1)
        return np.add(response.real**2, response.imag**2, out=out)

    def _row(self, time_s_B: Array) -> NDArray[np.int64]:
        # A nanosecond later, because the product of slot and number may fall just short of a tap time.
        since = np.mod(time_s_B + 1e-9, float(self.time_s_T[-1]))
        return np.searchsorted(self.time_s_T[:-1], since, side="right") - 1

    def _response_UF(self, row_B: NDArray[np.int64]) -> Complex:
        needed, place_B = np.unique(row_B, return_inverse=True)
        gain_UTL = self.gain_UTL[:, needed]
        response = np.zeros((*gain_UTL.shape[:2], self.frequency_hz_F.size), dtype=np.complex128)
        # Tap by tap: rounding then does not depend on the number of rows.
        for tap in range(gain_UTL.shape[2]):
            angle = self._angular_F * self.delay_s_UTL[:, needed, tap, None]
            response += gain_UTL[:, :, tap, None] * np.exp(-1j * angle)
        return np.asarray(response[:, place_B])

    @cached_property
    def _angular_F(self) -> Array:
        return 2.0 * math.pi * self.frequency_hz_F


def read_npz(path: Path) -> NodeTaps:
    """Arrays time_s (T,), delay_s and gain (N, N, T, L) from a .npz file; errors as in `arrays_of`."""
    found = arrays_of(path, {"time_s": "fiu", "delay_s": "fiu", "gain": "fiuc"})
    return NodeTaps(
        time_s_T=found["time_s"].astype(np.float64),
        delay_s_NNTL=found["delay_s"].astype(np.float64),
        gain_NNTL=found["gain"].astype(np.complex128),
    )


def write_npz(path: Path, taps: NodeTaps) -> None:
    """Writes the taps in the format of `read_npz`."""
    with path.open("wb") as file:  # given a name, numpy would append .npz to it
        np.savez_compressed(file, time_s=taps.time_s_T, delay_s=taps.delay_s_NNTL, gain=taps.gain_NNTL)
