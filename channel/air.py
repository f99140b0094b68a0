"""The SINR of every user in every resource-block group and slot, in one direction.

Axes: S slots; U users; F resource-block groups; B slots of a block of fading.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from channel.interference import Interferer, received_w, sinr
from channel.mobility import Mobility
from channel.placement import distances_m
from channel.shadowing import ShadowField, is_in_sight
from channel.slots import SLOTS, SlotGrid
from channel.units import db_to_ratio, ratio_to_db
from channel.values import Array, Real


class Losses(Protocol):
    """Mean loss over a horizontal distance, in decibels, with and without line of sight."""

    def path_loss_db(
        self, distance_2d_m: Real, frequency_hz: Real, is_los: bool | NDArray[np.bool_]
    ) -> Array: ...

    def los_probability(self, distance_2d_m: Real) -> Array: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """Slow losses between the base station at the origin and its users: distance, sight and shadows.

    `sight` decides alike at near places who has line of sight; `shadow` holds a field each for LOS and NLOS,
    with `shadow_db` their standard deviations; None means no shadowing. `gain_db` is of both antennas.
    """

    losses: Losses
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
        is_los = self.is_los(place_U2)
        along = np.hypot(place_U2[..., 0], place_U2[..., 1])
        loss_db = self.losses.path_loss_db(along, self.carrier_hz, is_los)
        if self.shadow is not None:
            near, far = (field.at(place_U2) for field in self.shadow)
            loss_db = loss_db + np.where(is_los, self.shadow_db[0] * near, self.shadow_db[1] * far)
        gain: Array = db_to_ratio(np.asarray(self.gain_db - loss_db))
        return gain

    def far_gain(self, from_U2: Array, to_S2: Array) -> Array:
        """The mean gain (U, S) between users and what disturbs them: no sight, no shadow."""
        loss_db = self.losses.path_loss_db(distances_m(from_U2, to_S2), self.carrier_hz, False)
        return db_to_ratio(np.asarray(self.gain_db - loss_db))


@dataclass(frozen=True, kw_only=True, eq=False)
class Disturbance:
    """Something at `place_2` that radiates over the whole band as `source` says."""

    place_2: Array
    source: Interferer


@dataclass(frozen=True, kw_only=True, eq=False)
class Air:
    """One direction of a cell. `fading` None means that |H|^2 is 1 everywhere.

    `most_w` is what the sender can radiate, `group_w` what it would put into one group if the cell let it
    (below `most_w` in the uplink where power control holds it back). `noise_w` is thermal noise in one group
    at the receiver. Disturbances do not fade fast. `receiver_is_base` says at which end they are heard.
    """

    ground: Ground
    mobility: Mobility
    fading: SlotGrid | None
    slot_s: float
    groups: int
    most_w: float
    target_snr: float | None
    noise_w: float
    disturbances: tuple[Disturbance, ...]
    receiver_is_base: bool

    def place_U2(self, number: int) -> Array:
        """Where users are while block `number` lasts, as seen at its beginning."""
        place: Array = self.mobility.at(np.asarray([number * SLOTS * self.slot_s]))[0]
        return place

    def sinr(self, first: int, count: int) -> Array:
        """SINR (count, U, F) in slots `first` and on, at `group_w` in the group."""
        begin, end = first // SLOTS, (first + count - 1) // SLOTS
        start = first - begin * SLOTS
        if begin == end:
            here: Array = self.block(begin)[0][start : start + count]
            return here
        parts = [self.block(number)[0] for number in range(begin, end + 1)]
        return np.concatenate(parts)[start : start + count]

    def group_w(self, slot: int) -> Array:
        """Watts (U,) that go into one group."""
        return self.block(slot // SLOTS)[1]

    def block(self, number: int) -> tuple[Array, Array]:
        """SINR (B, U, F) and power in a group (U,) of one block of slots."""
        return self._remembered(number)

    @cached_property
    def _remembered(self) -> Callable[[int], tuple[Array, Array]]:
        # Each Air keeps its own last blocks: a slot's report may lie in the block before it.
        return lru_cache(maxsize=3)(self._block)

    def _block(self, number: int) -> tuple[Array, Array]:
        level, group_w_U = self._level(number)
        if self.fading is None:
            return np.repeat(level[:, :, None], self.groups, axis=2), group_w_U
        response = np.swapaxes(self.fading.block(number), 0, 1)
        return level[:, :, None] * (response.real**2 + response.imag**2), group_w_U

    def mean_sinr_db(self, number: int) -> Array:
        """The SINR (U,) in decibels without fast fading, averaged over the slots of a block."""
        return ratio_to_db(self._level(number)[0].mean(axis=0))

    def _level(self, number: int) -> tuple[Array, Array]:
        """SINR without fast fading (B, U), and the power in a group (U,)."""
        place_U2 = self.place_U2(number)
        gain_U = self.ground.gain(place_U2)
        group_w_U = self._group_w(gain_U)
        heard_w = self._heard_w(number, place_U2) / self.groups
        return sinr((group_w_U * gain_U)[None], heard_w, self.noise_w), group_w_U

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
        for one in self.disturbances:
            gain_U = self.ground.far_gain(listener, one.place_2[None])[:, 0]
            heard_w += received_w(one.source.power_w(time_s)[:, None] * gain_U, 0.0)
        return heard_w
