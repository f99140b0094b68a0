"""The settings of a bridge: a TOML file with the tables [bridge] and [radio]."""

import dataclasses
import ipaddress
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channel.core.errors import ChannelError
from splitfl.config.checks import above, at_least, one_of
from splitfl.core.errors import ConfigError
from splitfl.setup.typed_tables import build
from testbed.radio.kinds import RADIOS, Announce, RadioKind
from testbed.radio.modem import ModemSettings
from testbed.radio.radio import Radio
from testbed.radio.slots import SlotTable

_LEAST_MTU, _MOST_MTU = 576, 16_000
_MOST_NODES = 256
_GAP_SYMBOLS = 2


@dataclass(frozen=True, kw_only=True)
class BridgeSettings:
    """[bridge]: a bridge between a TUN interface of this machine and a radio.

    Node n has the address `addresses`[n], such as 10.78.0.1/24; this one is `node`. IP packets have at most
    `mtu` bytes, each in one radio packet with row `mcs` of TS 38.214 table 5.1.3.1-1 and `fft_size`
    subcarriers. Samples are received in blocks of `block_s`. Without `slots` a node may send at any time;
    else node n sends in slot s where `slots`[s][n] is 1, and a slot has room for `slot_packets` packets of
    `mtu` bytes. Every `report_s` seconds of samples a line says how it goes; the file `record`, if it has a
    name, gets the same as JSON lines. Raises ConfigError for values out of range.
    """

    node: int
    addresses: tuple[str, ...]
    mtu: int = 1400
    mcs: int = 16
    fft_size: int = 64
    block_s: float = 0.005
    slots: tuple[str, ...] = ()
    slot_packets: int = 4
    report_s: float = 1.0
    record: str = ""

    def __post_init__(self) -> None:
        nodes = len(self.addresses)
        if not 2 <= nodes <= _MOST_NODES:
            raise ConfigError(f"addresses must be those of 2 to {_MOST_NODES} nodes, got {nodes}")
        if not 0 <= self.node < nodes:
            raise ConfigError(f"node must lie in [0, {nodes - 1}], got {self.node}")
        if len({_interface(one).ip for one in self.addresses}) < nodes:
            raise ConfigError(f"addresses must differ, got {', '.join(self.addresses)}")
        if not _LEAST_MTU <= self.mtu <= _MOST_MTU:
            raise ConfigError(f"mtu must lie in [{_LEAST_MTU}, {_MOST_MTU}], got {self.mtu}")
        at_least("slot_packets", self.slot_packets, 1)
        above("report_s", self.report_s, 0.0)
        if any(len(row) != nodes for row in self.slots):
            raise ConfigError(f"each row of slots must have a digit for each of {nodes} nodes")
        try:
            if (table := self.table()) is not None:
                table.opening(self.node, 0, self.modem.longest_burst)
        except ChannelError as error:
            raise ConfigError(str(error)) from None

    @property
    def modem(self) -> ModemSettings:
        """The settings of its modem."""
        return ModemSettings(mcs=self.mcs, fft_size=self.fft_size, longest=self.mtu, block_s=self.block_s)

    @property
    def address(self) -> str:
        """That of this node."""
        return self.addresses[self.node]

    def table(self) -> SlotTable | None:
        """The slots; None if nodes may send at any time."""
        modem, gap = self.modem, _GAP_SYMBOLS * self.modem.numerology.symbol
        return (
            SlotTable(rows=self.slots, length=self.slot_packets * modem.longest_burst + gap, gap=gap)
            if self.slots
            else None
        )

    def node_of(self) -> dict[bytes, int]:
        """The other nodes by address."""
        nodes = {_interface(one).ip.packed: node for node, one in enumerate(self.addresses)}
        return {address: node for address, node in nodes.items() if node != self.node}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a bridge: of its own, and of its radio."""

    bridge: BridgeSettings
    kind: RadioKind
    radio: Any

    def open_radio(self, announce: Announce | None) -> Radio:
        """Opens the radio, which may send.

        Raises ConfigError without `announce` for one that sends over the air, and with it for another one.
        """
        if self.kind.is_on_air and announce is None:
            raise ConfigError("a bridge sends over the air with this radio: add --transmit if it may")
        if announce is not None and not self.kind.is_on_air:
            raise ConfigError("--transmit is for radios that send over the air, and this one does not")
        return self.kind.open(self.radio, announce)


def read(path: Path) -> Settings:
    """The settings in this file. Raises ConfigError for a file that cannot be read, and invalid settings."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read the settings of a bridge from {path}: {error}") from None
    return from_table(table)


def from_table(table: Mapping[str, Any]) -> Settings:
    """The settings in the tables `bridge` and `radio`; see `read`."""
    for name in ("bridge", "radio"):
        if not isinstance(table.get(name), dict):
            raise ConfigError(f"a bridge's settings must have the table [{name}]")
    for name in table:
        one_of("table of a bridge's settings:", name, ("bridge", "radio"))
    kind, radio = radio_of(table["radio"])
    return Settings(bridge=_built(BridgeSettings, table["bridge"], "bridge"), kind=kind, radio=radio)


def radio_of(table: Mapping[str, Any]) -> tuple[RadioKind, Any]:
    """The kind and the settings in a table [radio]. Raises ConfigError for invalid ones."""
    radio = dict(table)
    kind = str(radio.pop("kind", "zmq"))
    one_of("radio.kind", kind, RADIOS)
    try:
        return RADIOS[kind], _built(RADIOS[kind].settings, radio, "radio")
    except ChannelError as error:
        raise ConfigError(f"[radio] {error}") from None


def _built(kind: type[Any], values: Mapping[str, Any], name: str) -> Any:
    for one in dataclasses.fields(kind):
        has_default = (one.default, one.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
        if not has_default and one.name not in values:
            raise ConfigError(f"{name}.{one.name} is missing")
    return build(kind, values, name, {})


def _interface(text: str) -> ipaddress.IPv4Interface:
    try:
        return ipaddress.IPv4Interface(text)
    except ValueError:
        raise ConfigError(f"an address must be like 10.78.0.1/24, got {text!r}") from None
