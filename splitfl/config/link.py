"""The radio link of every client, emulated or live."""

from dataclasses import dataclass, field

from channel.links.loss import GilbertElliott
from splitfl.config.checks import at_least, one_of
from splitfl.core.errors import ConfigError
from splitfl.core.quantities import percent_text, rate_text, seconds_text


@dataclass(frozen=True, kw_only=True)
class DirectionConfig:
    """One direction of the link. At a `rate_bps` of 0 sending takes no time; delay and losses remain.

    `loss` says whether packets are lost each by itself (`independent`, at `loss_rate`) or in bursts
    (`gilbert-elliott`: from packet to packet the good state is left with probability `leave_good`, the bad
    one with `leave_bad`, and a packet arrives with probability `arrive_good` or `arrive_bad`).
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
        at_least("link rate_bps", self.rate_bps, 0.0)
        at_least("link delay_s", self.delay_s, 0.0)
        if not 0.0 <= self.loss_rate < 1.0:
            raise ConfigError(f"link loss_rate must lie in [0, 1), got {self.loss_rate}")
        one_of("link loss", self.loss, ("independent", "gilbert-elliott"))
        chances = ("leave_good", "leave_bad", "arrive_good", "arrive_bad")
        for name in chances:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"link {name} must lie in [0, 1], got {getattr(self, name)}")
        if self.loss == "gilbert-elliott" and self.loss_rate:
            raise ConfigError(f"link loss_rate must be 0 with bursts, got {self.loss_rate}")
        if self.loss == "independent" and any(
            getattr(self, name) != getattr(DirectionConfig, name) for name in chances
        ):
            raise ConfigError(f"link {', '.join(chances)} are read with the loss 'gilbert-elliott' alone")

    def describe(self) -> str:
        """Rate, delay and losses, for a report."""
        if self == DirectionConfig():
            return "ideal, takes no time"
        rate = rate_text(self.rate_bps) if self.rate_bps else "no limit on the rate"
        lost = f"{percent_text(self.loss_rate)} of the packets lost"
        if self.loss == "gilbert-elliott":
            bursts = GilbertElliott(
                leave_good=self.leave_good,
                leave_bad=self.leave_bad,
                arrive_good=self.arrive_good,
                arrive_bad=self.arrive_bad,
            )
            lost = f"{percent_text(bursts.loss_rate)} of the packets lost, in bursts (Gilbert-Elliott)"
        return f"{rate}, {seconds_text(self.delay_s)} delay, {lost}"


@dataclass(frozen=True, kw_only=True)
class LinkConfig:
    """The emulated radio link of every client: packets of `mtu_bytes`, each sent at most
    `max_tries` times (0: until it arrives), an answer to each after `retry_s`.

    In place of the rates in `up` and `down` stands a `scenario` (a name of `splitfl channel list`, or a
    TOML file), in whose one cell all clients share the spectrum, or a recorded `trace`, which each client
    has to itself; `trace_down` is the downlink's where it is another.
    """

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
        if self.scenario and self.trace:
            raise ConfigError("link.scenario and link.trace are two links: leave one of them empty")
        if self.trace_down and not self.trace:
            raise ConfigError("link.trace_down goes with link.trace, which is empty")
        instead = "scenario" if self.scenario else "trace"
        if (self.scenario or self.trace) and not self.up == self.down == DirectionConfig():
            raise ConfigError(
                f"link.up and link.down are the {instead}'s own: leave them out, or the {instead}"
            )
        own = (("max_tries", self.max_tries), ("retry_s", self.retry_s))
        for name, got in own if self.scenario else ():
            if got != getattr(LinkConfig, name):
                raise ConfigError(f"link.{name} is the scenario's own: leave it out, got {got}")

    def describe(self) -> str:
        """The link and its packets, for a report."""
        if self.scenario:
            link = f"one cell that all clients share, scenario {self.scenario}"
        elif self.trace_down:
            link = f"uplink: recorded trace {self.trace}; downlink: recorded trace {self.trace_down}"
        elif self.trace:
            link = f"recorded trace {self.trace} in both directions, for each client by itself"
        else:
            link = f"uplink: {self.up.describe()}; downlink: {self.down.describe()}"
        tries = f", each sent at most {self.max_tries} times" if self.max_tries else ""
        return f"{link}; packets of {self.mtu_bytes} bytes{tries}"


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """What a live link has beyond the [link] of the virtual clock; see `splitfl run --live`.

    `congestion` is TCP's control at every end. `queue_bytes` wait at most for each client in each direction.
    Packets take up to `jitter_s` longer, at random, and stay `in_order` or do not.
    """

    congestion: str = "reno"
    queue_bytes: int = 500_000
    jitter_s: float = 0.0
    in_order: bool = True

    def __post_init__(self) -> None:
        at_least("live.queue_bytes", self.queue_bytes, 1)
        at_least("live.jitter_s", self.jitter_s, 0.0)
