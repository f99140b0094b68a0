"""The tables of a scenario that describe places, carrier, fading, links, who disturbs, and traffic.

`scenario` reads them from a file; [links] and [taps] stand in `link_tables`.
"""

from dataclasses import dataclass

from channel.errors import BadParameter
from channel.values import above, at_least, whole, within

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


@dataclass(frozen=True, kw_only=True)
class PlaceTable:
    """[place]: where users are, and what the way to them costs.

    With `environment` "constant" the loss is `loss_db` everywhere; with "log-distance" it is that at 1 m and
    grows with `exponent`; "links" and "taps" take their losses from those tables and add `loss_db`. Users
    stand at `positions_m`, as many of them as there are users, or where there are none uniformly between two
    circles around the base station; they move straight on, each its own way.
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
        if self.environment not in LOSSES:
            raise BadParameter(f"environment must be one of {', '.join(LOSSES)}, got {self.environment!r}")
        whole("users", self.users, 1)
        at_least("inner_m", self.inner_m, 0.0)
        above("radius_m", self.radius_m, self.inner_m)
        at_least("speed_m_s", self.speed_m_s, 0.0)
        if self.positions_m and self.users > len(self.positions_m):
            raise BadParameter(
                f"users must be at most the {len(self.positions_m)} positions_m, got {self.users}"
            )
        if any(len(place) != 2 for place in self.positions_m):
            raise BadParameter(f"positions_m must be pairs of x and y, got {self.positions_m}")


@dataclass(frozen=True, kw_only=True)
class CarrierTable:
    """[carrier]: the band, cut into groups of resource blocks of 12 subcarriers, and both ends.

    `antenna_gain_db` is that of every base station, for sending and receiving and in whatever direction; the
    antennas of users and of a jammer have 0 dB.
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
        above("frequency_hz", self.frequency_hz, 0.0)
        if self.subcarrier_hz not in (15e3, 30e3, 60e3, 120e3):
            raise BadParameter(
                f"subcarrier_hz must be 15000, 30000, 60000 or 120000, got {self.subcarrier_hz}"
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
    """[fading]: "none", or a profile A to E of TR 38.901 with this delay spread."""

    profile: str = "C"
    delay_spread_s: float = 100e-9
    waves: int = 16


@dataclass(frozen=True, kw_only=True)
class LinkTable:
    """[link]: modulation and coding, retransmission, scheduling."""

    table: str = "64qam"
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


@dataclass(frozen=True, kw_only=True)
class NeighboursTable:
    """[neighbours]: co-channel cells in rings around this one; `uplink_rise_db` is what their users add.

    The rise is interference over thermal noise at the base station, constant. With `handover` no user starts
    where a neighbour is heard better, for it would be that one's.
    """

    rings: int = 0
    spacing_m: float = 500.0
    load: float = 0.5
    uplink_rise_db: float = 0.0
    handover: bool = True

    def __post_init__(self) -> None:
        within("load", self.load, 0.0, 1.0)
        at_least("uplink_rise_db", self.uplink_rise_db, 0.0)


@dataclass(frozen=True, kw_only=True)
class JammerTable:
    """[jammer]: a pulse jammer ("pulse"), or one that is on and off at random ("bursts"); "" for none."""

    kind: str = ""
    position_m: tuple[float, float] = (50.0, 0.0)
    power_dbm: float = 30.0
    period_s: float = 0.02
    duty: float = 0.5

    def __post_init__(self) -> None:
        if self.kind not in ("", "pulse", "bursts"):
            raise BadParameter(f"kind must be empty, pulse or bursts, got {self.kind!r}")
        within("duty", self.duty, 0.0, 1.0)
        if self.kind == "bursts" and not 0.0 < self.duty < 1.0:
            raise BadParameter(f"duty of bursts must lie in (0, 1), got {self.duty}")


@dataclass(frozen=True, kw_only=True)
class TrafficTable:
    """[traffic]: bytes that every user sends once in each direction, from `start_s` on; -1 for no end."""

    up_bytes: float = -1.0
    down_bytes: float = -1.0
    start_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("up_bytes", "down_bytes"):
            if getattr(self, name) != -1.0:
                at_least(name, getattr(self, name), 0.0)
