"""Powers in a scenario's cell at a sample rate: of nodes, of noise and of interferers.

Axes: N nodes, the base station first; U users; E emitters.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from channel.cell.build_cell import cell_of
from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.core.units import dbm_to_w, w_to_dbm
from channel.propagation.interference import Interferer
from channel.propagation.sinr import SinrModel
from channel.scenario.load import Scenario

_UPDATE_M = 0.25
"""Users move this far between two evaluations of path loss, as in `build_cell`."""
_HEADROOM_DB = 12.0

Emitter = tuple[float, float, bool]
"""Where a neighbour or jammer stands, x and y in metres, and whether it is a base station."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CellLevels:
    """The powers of a scenario whose carrier is the band of `rate_hz`; implements Levels.

    `given_dbm_N` are the receivers' full scales at the antenna, None for the default of `FrontEnd`.
    """

    scenario: Scenario
    rate_hz: float
    given_dbm_N: Sequence[float | None]

    @cached_property
    def models(self) -> dict[str, SinrModel]:
        """The packet-level models of both directions."""
        return dict(cell_of(self.scenario).sinr_models)

    @cached_property
    def update_s(self) -> float:
        """The time between two evaluations of path loss."""
        speed_m_s = self.scenario.place.speed_m_s
        return _UPDATE_M / speed_m_s if speed_m_s else math.inf

    @cached_property
    def full_scale_dbm_N(self) -> Array:
        """The power at the antenna of a received magnitude of 1."""
        strongest_w = np.append(self._received_w_U("up", 0).max(), self._received_w_U("down", 0))
        auto_dbm = np.ceil(w_to_dbm(strongest_w)) + _HEADROOM_DB
        own = zip(self.given_dbm_N, auto_dbm.tolist(), strict=True)
        return np.asarray([auto if given is None else given for given, auto in own])

    @cached_property
    def full_scale_w_N(self) -> Array:
        """The same in watts."""
        return dbm_to_w(self.full_scale_dbm_N)

    def sent_w_N(self) -> Array:
        """The power that each node sends at time 0."""
        return np.append(self.models["down"].max_w, self._sent_w_U(self._gain_U("up", 0)))

    def amplitude(self, direction: str) -> Callable[[float], Array]:
        """The amplitudes (U,) of one direction over time, in full scales; linear between updates."""
        full_scale_w = self.full_scale_w_N[0] if direction == "up" else self.full_scale_w_N[1:]

        def at_update(update: int) -> Array:
            return np.sqrt(self._received_w_U(direction, update) / full_scale_w)

        known = lru_cache(maxsize=3)(at_update)

        def amplitude(time_s: float) -> Array:
            if math.isinf(self.update_s):
                return known(0)
            update = self.update(time_s)
            share = time_s / self.update_s - update
            return known(update) + share * (known(update + 1) - known(update))

        return amplitude

    @cached_property
    def emitters(self) -> dict[Emitter, Interferer]:
        """Every neighbour and jammer once: one that base station and users both hear is one source."""
        return {
            (x_m, y_m, group.is_base): group.source
            for direction in DIRECTIONS
            for group in self.models[direction].interferers
            for x_m, y_m in group.place_S2.tolist()
        }

    def update(self, time_s: float) -> int:
        """See Levels."""
        return int(time_s / self.update_s + 1e-9)

    def floor_N(self, update: int) -> Array:
        """See Levels."""
        return self._disturbances(update)[0]

    def gain_EN(self, update: int) -> Array:
        """See Levels."""
        return self._disturbances(update)[1]

    @cached_property
    def _disturbances(self) -> Callable[[int], tuple[Array, Array]]:
        # A grain of samples may begin just before an update.
        return lru_cache(maxsize=2)(self._disturbances_at)

    def _disturbances_at(self, update: int) -> tuple[Array, Array]:
        gain_EN = np.zeros((len(self.emitters), self.full_scale_w_N.size))
        row = {emitter: number for number, emitter in enumerate(self.emitters)}
        place_U2 = self._place_U2(update)
        for direction, listeners, here in (
            ("up", np.zeros((1, 2)), slice(0, 1)),
            ("down", place_U2, slice(1, None)),
        ):
            model = self.models[direction]
            for group in model.interferers:
                has_base_antenna = direction == "up" or group.is_base
                gain_RS = model.large_scale_loss.far_gain(
                    listeners, group.place_S2, has_base_antenna=has_base_antenna
                )
                for (x_m, y_m), gain_R in zip(group.place_S2.tolist(), gain_RS.T, strict=True):
                    gain_EN[row[x_m, y_m, group.is_base], here] = gain_R
        gain_EN /= self.full_scale_w_N
        always_w = np.asarray([source.min_w for source in self.emitters.values()])
        return self._thermal_w_N() / self.full_scale_w_N + always_w @ gain_EN, gain_EN

    def _thermal_w_N(self) -> Array:
        users = self.full_scale_w_N.size - 1
        return np.append(self._noise_w("up"), np.full(users, self._noise_w("down")))

    def _noise_w(self, direction: str) -> float:
        return self.models[direction].noise_w * self.rate_hz / self.scenario.carrier.group_hz

    def _received_w_U(self, direction: str, update: int) -> Array:
        gain_U = self._gain_U(direction, update)
        sent_w = self.models["down"].max_w if direction == "down" else self._sent_w_U(gain_U)
        return sent_w * gain_U

    def _sent_w_U(self, gain_U: Array) -> Array:
        """Uplink power control for a signal in the whole band."""
        up = self.models["up"]
        assert up.target_snr is not None
        return np.minimum(up.max_w, up.target_snr * self._noise_w("up") / gain_U)

    def _gain_U(self, direction: str, update: int) -> Array:
        return self.models[direction].large_scale_loss.gain(self._place_U2(update))

    def _place_U2(self, update: int) -> Array:
        time_s = update * self.update_s if update else 0.0
        place: Array = self.models["up"].mobility.at(np.asarray([time_s]))[0]
        return place
