"""The transports by name, those of other packages too, and what each refuses of what it was given."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Final

from splitfl.config import TransportConfig, one_of
from splitfl.core.errors import ConfigError
from splitfl.core.registry import Registry
from splitfl.transport import inproc
from splitfl.transport.base.spec import TransportSpec
from splitfl.transport.grpc import spec as grpc
from splitfl.transport.mqtt import spec as mqtt
from splitfl.transport.rpc import spec as rpc

TRANSPORTS: Final = Registry(
    "splitfl.transports",
    TransportSpec,
    {"inproc": inproc.SPEC, "rpc": rpc.SPEC, "grpc": grpc.SPEC, "mqtt": mqtt.SPEC},
)

_READ_BY_ALL: Final = ("name", "host", "port", "timeout_s", "join_timeout_s")


def transport(name: str, what: str = "transport.name") -> TransportSpec:
    """The transport of this name; ConfigError with the nearest for any other, and for a broken plug-in."""
    if name not in TRANSPORTS:
        one_of(what, name, TRANSPORTS)
    return TRANSPORTS[name]


def between_processes() -> list[str]:
    """The transports that have a server's and a client's end."""
    return [name for name, spec in TRANSPORTS.items() if not spec.in_process]


def check_settings(config: TransportConfig) -> TransportSpec:
    """The transport of this table; ConfigError for an unknown name, and for a key that it does not read."""
    spec = transport(config.name)
    given = {key: value for key, value in asdict(config).items() if key not in _READ_BY_ALL}
    refuse_unread(config.name, given, lambda key: f"transport.{key}")
    return spec


def refuse_unread(name: str, given: Mapping[str, object], label: Callable[[str], str]) -> None:
    """Raises ConfigError for a key that is given and not read by this transport; `label` is its full name."""
    for key in sorted(key for key, value in given.items() if value):
        if key not in TRANSPORTS[name].settings:
            readers = ", ".join(other for other, spec in TRANSPORTS.items() if key in spec.settings)
            raise ConfigError(f"{label(key)} is read by {readers}, not by {name}")


def join_options(config: TransportConfig) -> list[str]:
    """The options of `splitfl join` for a client on the server's own machine."""
    return ["--transport", config.name, *transport(config.name).join_options(config)]
