"""The SINR of every user in every resource-block group and slot, in one direction.

Axes: S slots; U users; F resource-block groups; B slots of a block of fading.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.core.arrays import Array, Real
from channel.core.units import db_to_ratio, ratio_to_db
from channel.propagation.fading_grid import SLOTS
from channel.propagation.interference import Interferer
from channel.propagation.mobility import Mobility
from channel.propagation.placement import distances_m
from channel.propagation.shadowing import ShadowField, has_line_of_sight


class PathLoss(Protocol):
    """Mean loss in decibels over a horizontal distance, with and without line of sight."""

    @property
    def is_same_everywhere(self) -> bool:
        """Whether the loss is independent of distance."""
        ...

    def path_loss_db(
        self, distance_2d_m: Real, frequency_hz: Real, is_los: bool | NDArray[np.bool_]
    ) -> Array: ...

    def los_probability(self, distance_2d_m: Real) -> Array: ...


class Response(Protocol):
    """Fast fading of mean power 1, one block of slots at a time."""

    @property
    def max_power(self) -> Array:
        """An upper bound (U,) of |H|^2 at all times."""
        ...

    def power(self, number: int, out: Array | None = None) -> Array:
        """|H|^2 (SLOTS, F, U) in slots number x SLOTS and the following ones; written to `out` if given."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class LargeScaleLoss:
    """Large-scale losses between the base station at the origin and its users: path loss and shadowing.

    `sight` is the random field that decides line of sight; `shadow` holds the shadowing fields of LOS and
    NLOS, `shadow_db` their standard deviations in decibels; None disables them. `gain_db` is the
    omnidirectional antenna gain of a base station; users and jammers have 0 dB.
    """

    losses: PathLoss
    carrier_hz: float
    gain_db: float
    sight: ShadowField | None
    shadow: tuple[ShadowField, ShadowField] | None
    shadow_db: tuple[float, float]

    def is_los(self, place_U2: Array) -> NDArray[np.bool_]:
        """Whether these positions (..., 2) have line of sight to the base station."""
        if self.sight is None:
            return np.ones(place_U2.shape[:-1], dtype=np.bool_)
        chance = self.losses.los_probability(np.hypot(place_U2[..., 0], place_U2[..., 1]))
        return has_line_of_sight(self.sight.at(place_U2), chance)

    def gain(self, place_U2: Array) -> Array:
        """Received over radiated power, from or to the base station, at positions (..., 2)."""
        return self._gains(place_U2.tobytes(), place_U2.shape)

    @cached_property
    def _gains(self) -> Callable[[bytes, tuple[int, ...]], Array]:
        # Both directions evaluate the same positions in turn, and static users repeat them.
        return lru_cache(maxsize=2)(self._gain)

    def _gain(self, places: bytes, shape: tuple[int, ...]) -> Array:
        place_U2 = np.frombuffer(places).reshape(shape)
        is_los = self.is_los(place_U2)
        along = np.hypot(place_U2[..., 0], place_U2[..., 1])
        loss_db = self.losses.path_loss_db(along, self.carrier_hz, is_los)
        if self.shadow is not None:
            shadow_db = np.empty(is_los.shape)
            for field, deviation_db, here in zip(self.shadow, self.shadow_db, (is_los, ~is_los), strict=True):
                shadow_db[here] = deviation_db * field.at(place_U2[here])
            loss_db = loss_db + shadow_db
        gain: Array = db_to_ratio(np.asarray(self.gain_db - loss_db))
        return gain

    def far_gain(self, from_U2: Array, to_S2: Array, *, has_base_antenna: bool = True) -> Array:
        """The mean gain (U, S) between receivers and interferers, NLOS and without shadowing.

        With `has_base_antenna` one of the two ends is a base station, whose antenna gain applies.
        """
        loss_db = self.losses.path_loss_db(distances_m(from_U2, to_S2), self.carrier_hz, False)
        antenna_db = self.gain_db if has_base_antenna else 0.0
        return db_to_ratio(np.asarray(antenna_db - loss_db))


@dataclass(frozen=True, kw_only=True, eq=False)
class InterfererGroup:
    """Interferers at `place_S2` that each radiate the power of `source` over the whole band.

    `is_base`: they use a base station's antenna, as neighbouring cells do and jammers do not.
    """

    place_S2: Array
    source: Interferer
    is_base: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class SinrModel:
    """The SINR of one direction of a cell. `fading` of None is |H|^2 = 1.

    `max_w` is the sender's maximum power; the power in one group, `group_w`, is lower in the uplink under
    power control towards `target_snr`. `noise_w` is the receiver's thermal noise in one group. Interference
    has no fast fading and is received at the base station if `receiver_is_base`, else at the users.
    Path loss and shadowing are updated every `update_blocks` blocks.
    """

    large_scale_loss: LargeScaleLoss
    mobility: Mobility
    fading: Response | None
    slot_s: float
    groups: int
    max_w: float
    target_snr: float | None
    noise_w: float
    interferers: tuple[InterfererGroup, ...]
    receiver_is_base: bool
    update_blocks: int = 1

    def place_U2(self, number: int) -> Array:
        """The positions (U, 2) used in block `number`."""
        first = number - number % self.update_blocks
        place: Array = self.mobility.at(np.asarray([first * SLOTS * self.slot_s]))[0]
        return place

    def block(self, number: int) -> tuple[Array, Array]:
        """SINR (B, F, U) in a block of slots with `group_w` in a group, and those watts (U,)."""
        users = self.place_U2(number).shape[0]
        sinr_BFU = np.empty((SLOTS, self.groups, users))
        return sinr_BFU, self.fill(number, sinr_BFU)

    def fill(self, number: int, sinr_BFU: Array) -> Array:
        """Writes the SINR of a block into `sinr_BFU`; returns the watts in a group (U,)."""
        level, group_w_U = self._level(number)
        if self.fading is None:
            sinr_BFU[:] = level[:, None, :]
        else:
            np.multiply(self.fading.power(number, sinr_BFU), level[:, None, :], out=sinr_BFU)
        return group_w_U

    def mean_sinr_db(self, number: int) -> Array:
        """The SINR (U,) in decibels without fast fading, averaged over the slots of block `number`."""
        return ratio_to_db(self._level(number)[0].mean(axis=0))

    def max_sinr(self) -> Array:
        """An upper bound (U,) of the SINR at all times; infinite if users move and path loss varies."""
        place_U2 = self.place_U2(0)
        if not (self.large_scale_loss.losses.is_same_everywhere or self.mobility.is_still):
            return np.full(place_U2.shape[0], np.inf)
        gain_U = self.large_scale_loss.gain(place_U2)
        fading: Array | float = 1.0 if self.fading is None else self.fading.max_power
        min_w = [one.source.min_w for one in self.interferers for _ in one.place_S2]
        listener = np.zeros((1, 2)) if self.receiver_is_base else place_U2
        interference_w = np.asarray(min_w) @ self._far_gains(listener.tobytes()) / self.groups
        most: Array = fading * self._group_w(gain_U) * gain_U / (interference_w + self.noise_w)
        return most

    def _level(self, number: int) -> tuple[Array, Array]:
        """SINR without fast fading (B, U), and the power in a group (U,)."""
        place_U2 = self.place_U2(number)
        gain_U = self.large_scale_loss.gain(place_U2)
        group_w_U = self._group_w(gain_U)
        interference_w = self._interference_w(number, place_U2) / self.groups
        # Not by `sinr`, whose range checks would be repeated for every block.
        return (group_w_U * gain_U)[None] / (interference_w + self.noise_w), group_w_U

    def _group_w(self, gain_U: Array) -> Array:
        """Watts in a group (U,). Downlink: equal shares. Uplink: for `target_snr`, at most `max_w`."""
        if self.target_snr is None:
            return np.full(gain_U.shape, self.max_w / self.groups)
        return np.minimum(self.max_w, self.target_snr * self.noise_w / gain_U)

    def _interference_w(self, number: int, place_U2: Array) -> Array:
        """Interference in watts over the whole band, (B, 1) at the base station or (B, U) at the users."""
        time_s: Array = (number * SLOTS + np.arange(SLOTS, dtype=np.float64)) * self.slot_s
        listener = np.zeros((1, 2)) if self.receiver_is_base else place_U2
        interference_w = np.zeros((SLOTS, listener.shape[0]))
        gains = iter(self._far_gains(listener.tobytes()))
        for one in self.interferers:
            power_w = one.source.power_w(time_s)[:, None]
            for _ in one.place_S2:
                interference_w += power_w * next(gains)
        return interference_w

    @cached_property
    def _far_gains(self) -> Callable[[bytes], Array]:
        return lru_cache(maxsize=2)(self._far_gain)

    def _far_gain(self, listeners: bytes) -> Array:
        """The gain from every interferer to every receiver: (interferers, receivers)."""
        listener = np.frombuffer(listeners).reshape(-1, 2)
        gains = [
            self.large_scale_loss.far_gain(
                listener, one.place_S2, has_base_antenna=self.receiver_is_base or one.is_base
            ).T
            for one in self.interferers
        ]
        return np.concatenate([np.empty((0, len(listener))), *gains])
