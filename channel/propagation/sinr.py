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
from channel.propagation.shadowing import ShadowField, is_in_sight


class PathLoss(Protocol):
    """Mean loss over a horizontal distance, in decibels, with and without line of sight."""

    @property
    def is_same_everywhere(self) -> bool:
        """Whether distance makes no difference."""
        ...

    def path_loss_db(
        self, distance_2d_m: Real, frequency_hz: Real, is_los: bool | NDArray[np.bool_]
    ) -> Array: ...

    def los_probability(self, distance_2d_m: Real) -> Array: ...


class Response(Protocol):
    """Fast fading of mean power 1, a block of slots at a time: drawn, or replayed from taps."""

    @property
    def most_power(self) -> Array:
        """A bound (U,) that |H|^2 keeps at all times."""
        ...

    def power(self, number: int) -> Array:
        """|H|^2 (SLOTS, F, U) in slots number x SLOTS and the following ones."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Slow losses between the base station at the origin and its users: distance, sight and shadows.

    `sight` decides alike at near places who has line of sight; `shadow` holds a field each for LOS and NLOS,
    with `shadow_db` their standard deviations; None means no shadowing. `gain_db` is that of a base station's
    antenna, in whatever direction; users and jammers have antennas of 0 dB.
    """

    losses: PathLoss
    carrier_hz: float
    gain_db: float
    sight: ShadowField | None
    shadow: tuple[ShadowField, ShadowField] | None
    shadow_db: tuple[float, float]

    def is_los(self, place_U2: Array) -> NDArray[np.bool_]:
        """Whether the base station can be seen from these places (..., 2)."""
        if self.sight is None:
            return np.ones(place_U2.shape[:-1], dtype=np.bool_)
        chance = self.losses.los_probability(np.hypot(place_U2[..., 0], place_U2[..., 1]))
        return is_in_sight(self.sight.at(place_U2), chance)

    def gain(self, place_U2: Array) -> Array:
        """Power ratio received over radiated, from the base station or to it, for places (..., 2)."""
        return self._gains(place_U2.tobytes(), place_U2.shape)

    @cached_property
    def _gains(self) -> Callable[[bytes, tuple[int, ...]], Array]:
        # Both directions ask for the same places, one after the other, and who stands still asks again.
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
        """The mean gain (U, S) between what disturbs and who hears it: no sight, no shadow.

        With `has_base_antenna` one of the two ends is a base station, and its antenna counts.
        """
        loss_db = self.losses.path_loss_db(distances_m(from_U2, to_S2), self.carrier_hz, False)
        antenna_db = self.gain_db if has_base_antenna else 0.0
        return db_to_ratio(np.asarray(antenna_db - loss_db))


@dataclass(frozen=True, kw_only=True, eq=False)
class Disturbance:
    """Whatever radiates over the whole band as `source` says, all at once, at each of `place_S2`.

    `is_base` says whether it radiates through a base station's antenna, as neighbours do and jammers do not.
    """

    place_S2: Array
    source: Interferer
    is_base: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Air:
    """One direction of a cell. `fading` None means that |H|^2 is 1 everywhere.

    `most_w` is what the sender can radiate, `group_w` what it would put into one group if the cell let it
    (below `most_w` in the uplink where power control holds it back). `noise_w` is thermal noise in one group
    at the receiver. Disturbances do not fade fast. `receiver_is_base` says at which end they are heard.
    Distances and shadows are those of every `still_blocks`-th block.
    """

    ground: Ground
    mobility: Mobility
    fading: Response | None
    slot_s: float
    groups: int
    most_w: float
    target_snr: float | None
    noise_w: float
    disturbances: tuple[Disturbance, ...]
    receiver_is_base: bool
    still_blocks: int = 1

    def place_U2(self, number: int) -> Array:
        """Where users are taken to be while block `number` lasts."""
        first = number - number % self.still_blocks
        place: Array = self.mobility.at(np.asarray([first * SLOTS * self.slot_s]))[0]
        return place

    def block(self, number: int) -> tuple[Array, Array]:
        """SINR (B, F, U) at `group_w` in a group, and those watts (U,), in a block of slots."""
        users = self.place_U2(number).shape[0]
        sinr_BFU = np.empty((SLOTS, self.groups, users))
        return sinr_BFU, self.fill(number, sinr_BFU)

    def fill(self, number: int, sinr_BFU: Array) -> Array:
        """The same, the SINR written to where it is wanted."""
        level, group_w_U = self._level(number)
        fading: Array | float = 1.0 if self.fading is None else self.fading.power(number)
        np.multiply(fading, level[:, None, :], out=sinr_BFU)
        return group_w_U

    def mean_sinr_db(self, number: int) -> Array:
        """The SINR (U,) in decibels without fast fading, averaged over the slots of a block."""
        return ratio_to_db(self._level(number)[0].mean(axis=0))

    def most_sinr(self) -> Array:
        """A bound (U,) that the SINR keeps at all times; infinite where users walk and distance matters."""
        place_U2 = self.place_U2(0)
        if not (self.ground.losses.is_same_everywhere or self.mobility.is_still):
            return np.full(place_U2.shape[0], np.inf)
        gain_U = self.ground.gain(place_U2)
        fading: Array | float = 1.0 if self.fading is None else self.fading.most_power
        least_w = [one.source.least_w for one in self.disturbances for _ in one.place_S2]
        listener = np.zeros((1, 2)) if self.receiver_is_base else place_U2
        heard_w = np.asarray(least_w) @ self._far_gains(listener.tobytes()) / self.groups
        most: Array = fading * self._group_w(gain_U) * gain_U / (heard_w + self.noise_w)
        return most

    def _level(self, number: int) -> tuple[Array, Array]:
        """SINR without fast fading (B, U), and the power in a group (U,)."""
        place_U2 = self.place_U2(number)
        gain_U = self.ground.gain(place_U2)
        group_w_U = self._group_w(gain_U)
        heard_w = self._heard_w(number, place_U2) / self.groups
        # Written out: every part of it was checked when it was made, and this is computed again and again.
        return (group_w_U * gain_U)[None] / (heard_w + self.noise_w), group_w_U

    def _group_w(self, gain_U: Array) -> Array:
        """Downlink: an equal share each. Uplink: what arrives at `target_snr`, or all there is."""
        if self.target_snr is None:
            return np.full(gain_U.shape, self.most_w / self.groups)
        return np.minimum(self.most_w, self.target_snr * self.noise_w / gain_U)

    def _heard_w(self, number: int, place_U2: Array) -> Array:
        """Watts of disturbance in the whole band, (B, 1) at the base station or (B, U) at the users."""
        time_s: Array = (number * SLOTS + np.arange(SLOTS, dtype=np.float64)) * self.slot_s
        listener = np.zeros((1, 2)) if self.receiver_is_base else place_U2
        heard_w = np.zeros((SLOTS, listener.shape[0]))
        gains = iter(self._far_gains(listener.tobytes()))
        for one in self.disturbances:
            power_w = one.source.power_w(time_s)[:, None]
            for _ in one.place_S2:
                heard_w += power_w * next(gains)
        return heard_w

    @cached_property
    def _far_gains(self) -> Callable[[bytes], Array]:
        return lru_cache(maxsize=2)(self._far_gain)

    def _far_gain(self, listeners: bytes) -> Array:
        """From every disturbance's places to those who hear it: (places, listeners)."""
        listener = np.frombuffer(listeners).reshape(-1, 2)
        gains = [
            self.ground.far_gain(
                listener, one.place_S2, has_base_antenna=self.receiver_is_base or one.is_base
            ).T
            for one in self.disturbances
        ]
        return np.concatenate([np.empty((0, len(listener))), *gains])
