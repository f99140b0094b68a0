"""Several transports in one run, as a plug-in: which client has which, and where the server listens."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from splitfl.config import TransportConfig, chosen, group, key_types, key_values, one_of
from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import address_over, parse_address
from splitfl.transport.base.reachability import Diagnosis, Reach
from splitfl.transport.base.spec import TransportSpec, location
from splitfl.transport.base.transport import ServerEnd
from splitfl.transport.grpc import spec as grpc
from splitfl.transport.mqtt import spec as mqtt
from splitfl.transport.mqtt.spec import MqttSettings
from splitfl.transport.rpc import spec as rpc

PARTS: Final[Mapping[str, TransportSpec]] = {"rpc": rpc.SPEC, "grpc": grpc.SPEC, "mqtt": mqtt.SPEC}
"""The transports that clients of one run may have, in order of preference."""
_READ_BY: Final[Mapping[str, str]] = {
    "rpc_port": "rpc",
    "grpc_port": "grpc",
    "secrets": "grpc",
    "broker": "mqtt",
    **dict.fromkeys(key_types(MqttSettings), "mqtt"),
}


@dataclass(frozen=True, kw_only=True)
class MixedSettings:
    """`clients` names the transport of each client, in the order of their numbers: rpc, grpc or mqtt.

    The server listens on `rpc_port` and `grpc_port` of its host (0: any free port), and uses `broker`,
    HOST:PORT. `secrets` is a folder from `splitfl certs` for gRPC; TLS files and login are for the broker.
    """

    clients: tuple[str, ...] = ()
    rpc_port: int = 0
    grpc_port: int = 0
    secrets: str = ""
    broker: str = ""
    login: MqttSettings = group(MqttSettings)

    def __post_init__(self) -> None:
        for client, name in enumerate(self.clients):
            one_of(f"transport.clients[{client}]", name, PARTS)
        for key in ("rpc_port", "grpc_port"):
            if not 0 <= (port := getattr(self, key)) <= 65535:
                raise ConfigError(f"transport.{key} must lie in [0, 65535], got {port}")
        if self.rpc_port and self.rpc_port == self.grpc_port:
            raise ConfigError(
                f"transport.rpc_port and transport.grpc_port must differ, got {self.rpc_port} for both"
            )
        for key, value in key_values(self).items():
            if value and _READ_BY.get(key, "") not in ("", *self.clients):
                raise ConfigError(
                    f"transport.{key} is read for clients over {_READ_BY[key]}; transport.clients has none"
                )


def _parts(config: TransportConfig) -> dict[str, TransportConfig]:
    """The settings of each transport that a client has."""
    own = config.of(MixedSettings)
    if not own.clients:
        raise ConfigError("transport.clients must name the transport of each client, got none")
    if config.port:
        raise ConfigError(
            f"transport.port must be 0 with the transport 'mixed', which has transport.rpc_port and "
            f"transport.grpc_port, got {config.port}"
        )
    return {name: _part(config, own, name) for name in PARTS if name in own.clients}


def _part(config: TransportConfig, own: MixedSettings, name: str) -> TransportConfig:
    values: dict[str, Any] = {"name": name}
    values |= {key: getattr(config, key) for key in ("host", "timeout_s", "join_timeout_s")}
    match name:
        case "rpc":
            values |= {"port": own.rpc_port}
        case "grpc":
            values |= {"port": own.grpc_port, "secrets": own.secrets}
        case "mqtt":
            host, port = parse_address(own.broker, name="transport.broker")
            values |= {**key_values(own.login), "host": host, "port": port}
    return chosen(TransportConfig, [PARTS[name].settings], values)


def _serve(config: TransportConfig, clients: int) -> ServerEnd:
    from splitfl.transport.mixed.server import MixedServer

    own = config.of(MixedSettings)
    if len(own.clients) != clients:
        raise ConfigError(
            f"transport.clients must name a transport for each of the {clients} clients "
            f"(federation.clients), got {len(own.clients)}"
        )
    ends: dict[str, ServerEnd] = {}
    with ExitStack() as stack:
        for name, part in _parts(config).items():
            ends[name] = PARTS[name].serve(part, clients)
            stack.callback(ends[name].stop)
        stack.pop_all()
    return MixedServer(ends, own.clients)


def _check_server(config: TransportConfig) -> None:
    for name, part in _parts(config).items():
        PARTS[name].check_server(part)


def _refuse_joining(*_: object) -> NoReturn:
    raise ConfigError(
        f"--transport must be the client's own of {', '.join(PARTS)}, which the server's setting "
        "transport.clients has, got 'mixed'"
    )


def _of_client(config: TransportConfig, client: int) -> TransportConfig:
    names = config.of(MixedSettings).clients
    if not 0 <= client < len(names):
        raise ConfigError(f"transport.clients must name the transport of client {client}, got {len(names)}")
    return _parts(config)[names[client]]


def _location(address: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in PARTS:
        if (where := address_over(name, address)) != address:
            place = location(where)
            found |= {"topic": place["topic"]} if name == "mqtt" else {f"{name}_port": place["port"]}
    return found


def _warning(config: TransportConfig) -> str:
    found = {name: PARTS[name].warning(part) for name, part in _parts(config).items()}
    return "; ".join(f"{name}: {warning}" for name, warning in found.items() if warning)


def _diagnose(reach: Reach) -> Diagnosis:
    found = {one.client: _first(replace(reach, clients=[one])) for one in reach.clients}
    if alone := [client for client, name in found.items() if not name]:
        return Diagnosis(works=False, why=f"no transport works for {', '.join(alone)}")
    if len(set(found.values())) == 1:
        return Diagnosis(works=False, why=f"all clients have the same first transport, {found.popitem()[1]}")
    return Diagnosis(works=True, why=", ".join(f"{client} over {name}" for client, name in found.items()))


def _first(reach: Reach) -> str:
    diagnoses = ((name, spec.diagnose) for name, spec in PARTS.items())
    return next((name for name, diagnose in diagnoses if diagnose and diagnose(reach).works), "")


SPEC: Final = TransportSpec(
    about="several at once: each client joins over its own of rpc, grpc and mqtt",
    describe="in separate processes, each client over its own transport",
    serve=_serve,
    join=_refuse_joining,
    check_server=_check_server,
    check_join=_refuse_joining,
    settings=MixedSettings,
    combines=tuple(PARTS),
    of_client=_of_client,
    location=_location,
    warning=_warning,
    encrypts=lambda config: all(PARTS[name].encrypts(part) for name, part in _parts(config).items()),
    diagnose=_diagnose,
)
