"""The radio link of every client, emulated or live."""

from dataclasses import dataclass, field
from typing import Final

from channel.core.errors import BadParameter
from channel.links.fixed import Direction
from channel.links.loss import GilbertElliott
from splitfl.config.checks import above, at_least, one_of
from splitfl.config.plugin import PluginTable
from splitfl.core.errors import ConfigError
from splitfl.core.registry import registered

GROUP: Final = "splitfl.links"
"""The entry-point group under which other packages register kinds of links."""


@dataclass(frozen=True, kw_only=True)
class DirectionConfig:
    """One direction of the link.

    A `rate_bps` of 0 is no rate limit; delay and losses remain. A packet arrives `delay_s` after it is
    sent.

    `loss` is `independent`, at `loss_rate`, or bursty (`gilbert-elliott`: per packet the good state is left
    with probability `leave_good` and the bad one with `leave_bad`; a packet arrives with probability
    `arrive_good` or `arrive_bad`).
    """

    rate_bps: float = 0.0
    delay_s: float = 0.0
    loss_rate: float = 0.0
    loss: str = "independent"
    leave_good: float = 0.0
    leave_bad: float = 1.0
    arrive_good: float = 1.0
    arrive_bad: float = 0.0

    def __post_init__(self) -> None:
        one_of("link loss", self.loss, ("independent", "gilbert-elliott"))
        self.direction()
        chances = ("leave_good", "leave_bad", "arrive_good", "arrive_bad")
        if self.loss == "independent" and any(
            getattr(self, name) != getattr(DirectionConfig, name) for name in chances
        ):
            raise ConfigError(f"link {', '.join(chances)} need the loss 'gilbert-elliott'")

    def direction(self) -> Direction:
        """The channel model's direction; raises ConfigError for values out of range."""
        rate_bps, delay_s, loss_rate = self.rate_bps, self.delay_s, self.loss_rate
        try:
            bursts = GilbertElliott(
                leave_good=self.leave_good,
                leave_bad=self.leave_bad,
                arrive_good=self.arrive_good,
                arrive_bad=self.arrive_bad,
            )
            loss = bursts if self.loss == "gilbert-elliott" else None
            return Direction(rate_bps=rate_bps, delay_s=delay_s, loss_rate=loss_rate, loss=loss)
        except BadParameter as error:
            raise ConfigError(f"link {error}") from None


@dataclass(frozen=True, kw_only=True)
class LinkConfig(PluginTable):
    """The emulated radio link of every client: packets of `mtu_bytes`, each sent at most
    `max_tries` times (0: until it arrives), with an acknowledgement after `retry_s`.

    A `scenario` (a name of `splitfl channel list`, or a TOML file) replaces the rates in `up` and `down` by
    one cell whose spectrum all clients share; a `trace` replaces them by a recording that each client
    replays, with `trace_down` for another downlink. `kind` names a link of another package (`splitfl list
    links`), which uses these settings and its own.
    """

    kind: str = ""
    mtu_bytes: int = 1500
    max_tries: int = 0
    retry_s: float = 0.008
    scenario: str = ""
    trace: str = ""
    trace_down: str = ""
    up: DirectionConfig = field(default_factory=DirectionConfig)
    down: DirectionConfig = field(default_factory=DirectionConfig)

    def __post_init__(self) -> None:
        at_least("link.mtu_bytes", self.mtu_bytes, 64)
        at_least("link.max_tries", self.max_tries, 0)
        at_least("link.retry_s", self.retry_s, 0.0)
        if self.kind:
            self._check_foreign()
        if self.scenario and self.trace:
            raise ConfigError("link.scenario and link.trace exclude each other: leave one of them empty")
        if self.trace_down and not self.trace:
            raise ConfigError("link.trace_down needs link.trace, which is empty")
        instead = "scenario" if self.scenario else "trace"
        if (self.scenario or self.trace) and not self.up == self.down == DirectionConfig():
            raise ConfigError(
                f"link.up and link.down cannot be set with link.{instead}: remove them, or the {instead}"
            )
        own = (("max_tries", self.max_tries), ("retry_s", self.retry_s))
        for name, got in own if self.scenario else ():
            if got != getattr(LinkConfig, name):
                raise ConfigError(f"link.{name} is part of the scenario and cannot be set, got {got}")

    @property
    def name(self) -> str:
        """The name of this kind of link among `splitfl.setup.link_kinds.LINKS`."""
        if self.kind:
            return self.kind
        return "scenario" if self.scenario else "trace" if self.trace else "fixed"

    def _check_foreign(self) -> None:
        names = registered(GROUP)
        if not names:
            raise ConfigError(
                f"link.kind must be empty, since no package with links is installed, got {self.kind!r}; "
                "use link.scenario, link.trace, or link.up and link.down"
            )
        one_of("link.kind", self.kind, names)
        if self.scenario or self.trace:
            raise ConfigError(
                f"link.kind {self.kind!r} excludes link.scenario and link.trace: leave one empty"
            )


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """Settings of a live link beyond [link]; see `splitfl run --live`.

    `congestion` is TCP's congestion control at every node. `queue_bytes` is the queue size per client and
    direction. Packets have a random extra delay of up to `jitter_s`; `in_order` prevents reordering.
    """

    congestion: str = "reno"
    queue_bytes: int = 500_000
    jitter_s: float = 0.0
    in_order: bool = True

    def __post_init__(self) -> None:
        at_least("live.queue_bytes", self.queue_bytes, 1)
        at_least("live.jitter_s", self.jitter_s, 0.0)


@dataclass(frozen=True, kw_only=True)
class RadioConfig:
    """Settings of the waveform; see `splitfl run --radio`.

    Radios exchange `rate_hz` complex samples per second, of which OFDM with `fft_size` subcarriers occupies
    13/16. IP packets have at most `mtu_bytes`, each in one radio packet with the modulation and code rate of
    row `mcs` of TS 38.214 table 5.1.3.1-1.
    """

    rate_hz: float = 5e5
    mcs: int = 16
    fft_size: int = 64
    mtu_bytes: int = 1400

    def __post_init__(self) -> None:
        above("radio.rate_hz", self.rate_hz, 0.0)
