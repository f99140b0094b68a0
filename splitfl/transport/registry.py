"""The transports by name, those of other packages too."""

from collections.abc import Mapping
from typing import Final

from splitfl.config import TransportConfig, key_types, one_of
from splitfl.core.errors import ConfigError
from splitfl.core.registry import Registry
from splitfl.transport import inproc
from splitfl.transport.base.spec import TransportSpec
from splitfl.transport.grpc import spec as grpc
from splitfl.transport.mqtt import spec as mqtt
from splitfl.transport.radio import nodes_spec
from splitfl.transport.radio import spec as radio
from splitfl.transport.rpc import spec as rpc

TRANSPORTS: Final = Registry(
    "splitfl.transports",
    TransportSpec,
    {
        "inproc": inproc.SPEC,
        "rpc": rpc.SPEC,
        "grpc": grpc.SPEC,
        "mqtt": mqtt.SPEC,
        "radio": radio.SPEC,
        "radio-nodes": nodes_spec.SPEC,
    },
)


def transport(name: str, what: str = "transport.name") -> TransportSpec:
    """The transport of this name; ConfigError with the nearest for any other, and for a broken plug-in."""
    if name not in TRANSPORTS:
        one_of(what, name, TRANSPORTS)
    return TRANSPORTS[name]


def between_processes() -> list[str]:
    """The transports that have a server's and a client's end."""
    return [name for name, spec in TRANSPORTS.items() if not spec.in_process]


def refuse_options(name: str, given: Mapping[str, object]) -> None:
    """ConfigError for an option of `splitfl join` that is given and that this transport does not have."""
    for key in sorted(key for key, value in given.items() if value):
        if key not in key_types(TRANSPORTS[name].settings):
            having = ", ".join(one for one, spec in TRANSPORTS.items() if key in key_types(spec.settings))
            raise ConfigError(f"--{key.replace('_', '-')} is read by {having}, not by {name}")


def join_options(config: TransportConfig) -> list[str]:
    """The options of `splitfl join` for a client on the server's own machine."""
    return ["--transport", config.name, *transport(config.name).join_options(config)]
