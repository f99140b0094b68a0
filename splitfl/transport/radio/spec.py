"""Tokens over the waveform of a packet modem: settings, and what reports say of it."""

from dataclasses import dataclass
from typing import Final, NoReturn

from splitfl.config import TransportConfig, above, at_least
from splitfl.core.errors import ConfigError
from splitfl.transport.base.spec import TransportSpec

LOSSES: Final = ("received", "predicted")


@dataclass(frozen=True, kw_only=True)
class RadioSettings:
    """Settings of the waveform.

    Server and clients are the base station and the first users of `scenario` (a name of `splitfl channel
    list`, or a TOML file), or, with an `air_port`, the first nodes of the air that `splitfl channel air` or
    another program serves at this port. Radios exchange `rate_hz` complex samples per second, with `fft_size`
    subcarriers and the modulation and code rate of row `mcs` of TS 38.214 table 5.1.3.1-1. Tokens that may be
    lost are sent once, each in a code block of its own, in packets of up to `token_packet_bytes`, until
    `token_deadline_s` after the first one; everything else is repeated until it arrives, in packets of up to
    `packet_bytes`. With `losses` "received" packets are modulated, and lost if the modem decodes errors; with
    "predicted" they take the same time, without samples, and are lost with the probability that the
    packet-level channel predicts for this modem.
    """

    scenario: str = "ideal"
    air_port: int = 0
    losses: str = "received"
    rate_hz: float = 1e6
    mcs: int = 16
    fft_size: int = 64
    packet_bytes: int = 1400
    token_packet_bytes: int = 6000
    token_deadline_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 <= self.air_port <= 65535:
            raise ConfigError(f"transport.air_port must lie in [0, 65535], got {self.air_port}")
        if self.air_port and self.scenario != RadioSettings.scenario:
            raise ConfigError(
                "transport.scenario is that of the air, if transport.air_port is not 0: remove it"
            )
        if self.losses not in LOSSES:
            raise ConfigError(f"transport.losses must be one of {', '.join(LOSSES)}, got {self.losses!r}")
        if self.air_port and self.losses != RadioSettings.losses:
            raise ConfigError(
                f"transport.losses must be {RadioSettings.losses!r} if transport.air_port is not 0, got "
                f"{self.losses!r}"
            )
        above("transport.rate_hz", self.rate_hz, 0.0)
        at_least("transport.packet_bytes", self.packet_bytes, 64)
        at_least("transport.token_packet_bytes", self.token_packet_bytes, 1)
        above("transport.token_deadline_s", self.token_deadline_s, 0.0)


def _refuse(*_: object) -> NoReturn:
    raise ConfigError(
        "the transport radio runs server and clients in one process, with a radio each: choose another to "
        "serve or join, or carry another's packets with --radio"
    )


def describe_link(config: TransportConfig) -> str:
    """What carried the messages, for a report."""
    own = config.of(RadioSettings)
    air = (
        f"the air at port {own.air_port}"
        if own.air_port
        else f"the IQ channel of the scenario {own.scenario}"
    )
    if own.losses == "predicted":
        return (
            f"Every message took the time of a waveform of {own.rate_hz:,.0f} samples per second, MCS "
            f"{own.mcs}, without samples: losses were drawn as the packet level predicts them for {air}. "
            "Packets, retransmissions and airtime are those of such a waveform."
        )
    return (
        f"Every message crossed a waveform of {own.rate_hz:,.0f} samples per second, MCS {own.mcs}, through "
        f"{air}: losses were not drawn, but received as "
        "errors of the modem. Packets, retransmissions and airtime are those of the waveform."
    )


SPEC: Final = TransportSpec(
    about="one process, every message as modulated samples through an IQ channel; tokens may be lost",
    describe="in one process, over a radio waveform",
    serve=_refuse,
    join=_refuse,
    check_server=lambda config: None,
    check_join=_refuse,
    settings=RadioSettings,
    in_process=True,
    describe_link=describe_link,
)
