"""The transports by name, those of other packages too."""

from collections.abc import Mapping
from typing import Final

from splitfl.config import TransportConfig, key_types, one_of
from splitfl.core.errors import ConfigError
from splitfl.core.registry import Registry
from splitfl.transport import inproc
from splitfl.transport.base.addresses import address_over
from splitfl.transport.base.spec import TransportSpec
from splitfl.transport.grpc import spec as grpc
from splitfl.transport.mixed import spec as mixed
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
        "mixed": mixed.SPEC,
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
            having = ", ".join(
                one
                for one, spec in TRANSPORTS.items()
                if key in key_types(spec.settings) and not spec.combines
            )
            raise ConfigError(f"--{key.replace('_', '-')} is read by {having}, not by {name}")


def own_transport(config: TransportConfig, client: int) -> TransportConfig:
    """The settings of the transport over which this client joins."""
    return transport(config.name).of_client(config, client)


def refuse_other(config: TransportConfig, client: int, name: str) -> None:
    """ConfigError where the server combines transports, and this client's own is another than this one."""
    own = own_transport(config, client).name
    if own not in (config.name, name):
        raise ConfigError(f"--transport must be {own} for client {client} (transport.clients), got {name!r}")


def join_arguments(config: TransportConfig, address: str, client: int) -> list[str]:
    """The arguments of `splitfl join` for a client on the machine of the server at this address."""
    own = own_transport(config, client)
    where = address_over(own.name, address)
    return [where, "--transport", own.name, *transport(own.name).join_options(own)]
