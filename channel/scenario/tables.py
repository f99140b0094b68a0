"""The scenario tables for positions, carrier, fading, link, interference and traffic.

`load` reads them from a file; [links] and [taps] are in `link_tables`. All raise BadParameter for values out
of range.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from channel.cell.scheduler import SCHEDULERS
from channel.core.errors import BadParameter
from channel.phy.harq import COMBINING
from channel.phy.mcs import MCS_TABLES
from channel.phy.receivers import receiver_names
from channel.propagation.tdl import PROFILES
from channel.scenario.ranges import require_ranges

LOSSES = (
    "urban-macro",
    "urban-micro",
    "indoor-mixed-office",
    "indoor-open-office",
    "constant",
    "log-distance",
    "links",
    "taps",
)

_MAX_DISTANCE_M = 1e5
_SUBCARRIERS_HZ = (15e3, 30e3, 60e3, 120e3)
_MAX_BLOCKS = 16 * 275
"""16 carriers aggregated (TS 38.300 clause 6.7), each of 275 resource blocks."""
_MAX_PATTERN = 160
"""Slots in 20 ms at 120 kHz."""
_MIN_DUTY = 0.001


@dataclass(frozen=True, kw_only=True)
class PlaceTable:
    """[place]: positions of the users, and the path loss to them.

    `users` is the number of users. With `shadowing` the loss of an environment of TR 38.901 has its
    log-normal term, correlated over distance. With `environment` "constant" the loss is `loss_db`
    everywhere; with "log-distance" it is `loss_db` at 1 m and grows with `exponent`; "links" and "taps" take
    their losses from those tables and add `loss_db`. Users start at the first of `positions_m`, or, without
    positions, uniformly in the ring between `inner_m` and `radius_m` around the base station. Each moves at
    `speed_m_s` in a straight line of random direction.
    """

    environment: str = "urban-micro"
    loss_db: float = 80.0
    exponent: float = 2.0
    users: int = 10
    radius_m: float = 150.0
    inner_m: float = 10.0
    positions_m: tuple[tuple[float, float], ...] = ()
    speed_m_s: float = 0.0
    shadowing: bool = True

    def __post_init__(self) -> None:
        _one_of("place.environment", self.environment, LOSSES)
        require_ranges("place", self)
        if self.radius_m <= self.inner_m:
            raise BadParameter(
                f"place.radius_m must be above place.inner_m, {self.inner_m:g}, got {self.radius_m:g}"
            )
        for number, place in enumerate(self.positions_m):
            _position(f"place.positions_m of user {number}", place)
        if self.positions_m and self.users > len(self.positions_m):
            raise BadParameter(
                f"place.users must be at most the {len(self.positions_m)} positions_m, got {self.users}"
            )


@dataclass(frozen=True, kw_only=True)
class CarrierTable:
    """[carrier]: the band in groups of resource blocks of 12 subcarriers, and the radios of both ends.

    The band around `frequency_hz` has `groups` groups, the smallest units of scheduling, of
    `blocks_per_group` resource blocks with a subcarrier spacing of `subcarrier_hz`. `base_dbm` is the base
    station's transmit power over the whole band; `base_noise_figure_db` and `user_noise_figure_db` are those
    of the receivers. A user's power in a group is such that the base station receives it at
    `uplink_target_snr_db`, or as near to it as the device's power allows (open-loop power control with full
    compensation, TS 38.213 clause 7.1). `antenna_gain_db` is the omnidirectional gain of every base station,
    transmit and receive; the antennas of users and of a jammer have 0 dB.
    """

    frequency_hz: float = 3.5e9
    subcarrier_hz: float = 30e3
    groups: int = 13
    blocks_per_group: int = 4
    base_dbm: float = 30.0
    antenna_gain_db: float = 0.0
    base_noise_figure_db: float = 5.0
    user_noise_figure_db: float = 7.0
    uplink_target_snr_db: float = 20.0

    def __post_init__(self) -> None:
        require_ranges("carrier", self)
        if self.subcarrier_hz not in _SUBCARRIERS_HZ:
            in_khz = self.subcarrier_hz * 1e3 in _SUBCARRIERS_HZ
            hint = f"; {self.subcarrier_hz:g} kHz are {self.subcarrier_hz * 1e3:g} Hz" if in_khz else ""
            raise BadParameter(
                "carrier.subcarrier_hz must be 15000, 30000, 60000 or 120000, "
                f"got {self.subcarrier_hz:g}{hint}"
            )
        blocks = self.groups * self.blocks_per_group
        if blocks > _MAX_BLOCKS:
            raise BadParameter(
                f"carrier.groups times carrier.blocks_per_group must be at most {_MAX_BLOCKS} resource "
                f"blocks, got {blocks}"
            )

    @property
    def group_hz(self) -> float:
        """Bandwidth of one group."""
        return 12.0 * self.subcarrier_hz * self.blocks_per_group

    @property
    def slot_s(self) -> float:
        """1 ms at 15 kHz, and shorter in proportion (3GPP TS 38.211 clause 4.3.2)."""
        return 15.0 / self.subcarrier_hz


@dataclass(frozen=True, kw_only=True)
class FadingTable:
    """[fading]: small-scale fading of every link.

    `profile` is none, or a tapped delay line A to E of TR 38.901 table 7.7.2-1 to 5 with an rms delay spread
    of `delay_spread_s`. Each tap is a sum of `waves` plane waves.
    """

    profile: str = "C"
    delay_spread_s: float = 100e-9
    waves: int = 16

    def __post_init__(self) -> None:
        _one_of("fading.profile", self.profile, ("none", *PROFILES))
        require_ranges("fading", self)


@dataclass(frozen=True, kw_only=True)
class LinkTable:
    """[link]: modulation and coding, retransmission, scheduling.

    `table` is the MCS table of TS 38.214: 64qam (5.1.3.1-1) or 256qam (5.1.3.1-2). `receiver` is ideal, that
    of the block error law, or splitfl-ofdm, the modem of `channel.waveform` as it was measured.
    `implementation_loss_db` is what the receiver loses in addition. Link adaptation aims at first
    transmissions that fail with probability `target`: an outer loop lowers its margin by `step_db` after each
    success. Channel reports are `report_delay_s` old. `harq` is none, arq (each try by itself), chase or
    incremental, with at most `max_tries` transmissions of a block, `round_trip_s` apart. `scheduler` is
    proportional-fair, with rates averaged over `window_s`, round-robin or maximum-rate. An uplink user waits
    `grant_delay_s` for its first grant; a grant lasts `grant_slots` slots. `tdd` is a repeated pattern of
    downlink and uplink slots such as DDDU; empty means FDD.
    """

    table: str = "64qam"
    receiver: str = "ideal"
    implementation_loss_db: float = 0.0
    target: float = 0.1
    step_db: float = 0.05
    harq: str = "chase"
    max_tries: int = 4
    round_trip_s: float = 0.008
    scheduler: str = "proportional-fair"
    window_s: float = 0.1
    tdd: str = ""
    grant_delay_s: float = 0.004
    grant_slots: int = 1
    report_delay_s: float = 0.004

    def __post_init__(self) -> None:
        _one_of("link.table", self.table, MCS_TABLES)
        _one_of("link.receiver", self.receiver, receiver_names())
        _one_of("link.harq", self.harq, COMBINING)
        _one_of("link.scheduler", self.scheduler, SCHEDULERS)
        require_ranges("link", self)
        if self.harq == "none" and self.max_tries != 1:
            raise BadParameter(f"link.max_tries must be 1 where link.harq is none, got {self.max_tries}")
        if self.tdd and (set(self.tdd) != {"D", "U"} or len(self.tdd) > _MAX_PATTERN):
            is_special = set(self.tdd.upper()) == {"D", "S", "U"}
            hint = "; a special slot S is not modelled: write D or U for it" if is_special else ""
            raise BadParameter(
                f"link.tdd must be empty (FDD) or at most {_MAX_PATTERN} letters D and U, one per slot "
                f"and at least one of each, as in DDDU; got {self.tdd[:40]!r}{hint}"
            )


@dataclass(frozen=True, kw_only=True)
class NeighboursTable:
    """[neighbours]: co-channel cells in rings around this one, and the interference of their users.

    `rings` is the number of hexagonal rings of base stations, `spacing_m` apart, which interfere with `load`
    of their full power. `uplink_rise_db` is the constant rise over thermal noise at the base station. With
    `handover` no user starts where a neighbour is received better, since that cell would serve it.
    """

    rings: int = 0
    spacing_m: float = 500.0
    load: float = 0.5
    uplink_rise_db: float = 0.0
    handover: bool = True

    def __post_init__(self) -> None:
        require_ranges("neighbours", self)


@dataclass(frozen=True, kw_only=True)
class JammerTable:
    """[jammer]: a periodic pulse jammer ("pulse"), a random on-off jammer ("bursts"), or none ("").

    `kind` is one of these. It stands at `position_m`, x and y from the base station, and radiates `power_dbm`
    over the whole band during the share `duty` of the time: once in each `period_s` (pulse), or for random
    times with that mean period (bursts).
    """

    kind: str = ""
    position_m: tuple[float, float] = (50.0, 0.0)
    power_dbm: float = 30.0
    period_s: float = 0.02
    duty: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in ("", "pulse", "bursts"):
            raise BadParameter(f"jammer.kind must be empty, pulse or bursts, got {self.kind!r}")
        _position("jammer.position_m", self.position_m)
        require_ranges("jammer", self)
        if self.kind == "bursts" and not _MIN_DUTY <= self.duty <= 1.0 - _MIN_DUTY:
            raise BadParameter(
                f"jammer.duty of bursts must lie in [{_MIN_DUTY:g}, {1.0 - _MIN_DUTY:g}], got {self.duty:g}"
            )


@dataclass(frozen=True, kw_only=True)
class TrafficTable:
    """[traffic]: bytes that every user sends once per direction from `start_s`.

    `up_bytes` go from each user to the base station, `down_bytes` from it to each user; -1 means a full
    buffer.
    """

    up_bytes: float = -1.0
    down_bytes: float = -1.0
    start_s: float = 0.0

    def __post_init__(self) -> None:
        require_ranges("traffic", self)
        for name in ("up_bytes", "down_bytes"):
            if -1.0 < getattr(self, name) < 0.0:
                raise BadParameter(f"traffic.{name} must be at least 0, or -1, got {getattr(self, name):g}")


def _one_of(key: str, got: str, known: Iterable[str]) -> None:
    if got not in known:
        raise BadParameter(f"{key} must be one of {', '.join(known)}, got {got!r}")


def _position(key: str, place: object) -> None:
    """Raises BadParameter unless it is two numbers in metres."""
    numbers = place if isinstance(place, tuple) else ()
    if len(numbers) != 2 or any(type(one) not in (int, float) for one in numbers):
        raise BadParameter(f"{key} must be two numbers in metres, x and y, got {_shown(place)}")
    if not all(math.isfinite(one) and abs(one) <= _MAX_DISTANCE_M for one in numbers):
        raise BadParameter(
            f"{key} must lie in [{-_MAX_DISTANCE_M:g}, {_MAX_DISTANCE_M:g}] m, x and y, got {_shown(place)}"
        )


def _shown(place: object) -> str:
    text = str(list(place)) if isinstance(place, tuple) else repr(place)
    return text if len(text) <= 80 else f"{text[:77]}..."
