"""The transports by name. What one needs is imported when it is asked for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from splitfl.config import TransportConfig, one_of
from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import joined, parse_address, refuse_ipv6
from splitfl.transport.base.transport import ClientEnd, ServerEnd
from splitfl.transport.security.credentials import Credentials, Tokens, read_token, server_credentials
from splitfl.transport.session.client import SessionClient
from splitfl.transport.session.server import SessionServer
from splitfl.transport.session.session_registry import SessionRegistry


@dataclass(frozen=True, kw_only=True)
class Joining:
    """Where a client finds its server, as whom it comes, and by which files it proves that.

    `user` and `password_file` are a broker's. The server is looked for `timeout_s`.
    """

    address: str
    client: int
    timeout_s: float
    credentials: Credentials = field(default_factory=Credentials)
    user: str = ""
    password_file: str = ""


@dataclass(frozen=True, kw_only=True)
class Transport:
    """One way for frames to travel; `resumes` says whether a broken connection is gone on from.

    Where it is not, a client that has lost it ends, and another process may come in its place, or the
    same one begun from the start.
    """

    about: str
    serve: Callable[[TransportConfig, int], ServerEnd]
    join: Callable[[Joining], ClientEnd]
    resumes: bool
    warning: Callable[[TransportConfig], str]


def transport(name: str) -> Transport:
    """The transport of this name; ConfigError with the nearest for any other."""
    one_of("transport", name, TRANSPORTS)
    return TRANSPORTS[name]


def _serve_rpc(config: TransportConfig, clients: int) -> ServerEnd:
    from splitfl.transport.rpc.server import RpcServer

    return RpcServer(config.host, config.port, clients, config.timeout_s, config.join_timeout_s)


def _join_rpc(joining: Joining) -> ClientEnd:
    from splitfl.transport.rpc.client import RpcClient

    host, port = parse_address(joining.address)
    refuse_ipv6("PyTorch RPC", host)
    return RpcClient(host, port, joining.client, joining.timeout_s)


def _serve_grpc(config: TransportConfig, clients: int) -> ServerEnd:
    from splitfl.transport.grpc.server import CHUNK_BYTES, GrpcEntrance

    credentials = server_credentials(config)
    tokens = Tokens.read(credentials.token_file) if credentials.token_file else None
    if tokens is not None and not credentials.cert:
        raise ConfigError("tokens must not travel in the clear: give transport.tls_cert and tls_key too")
    desk = SessionRegistry(clients, config.timeout_s, config.join_timeout_s, CHUNK_BYTES, tokens=tokens)
    return SessionServer(desk, GrpcEntrance(config.host, config.port, desk, credentials))


def _join_grpc(joining: Joining) -> ClientEnd:
    from splitfl.transport.grpc.client import GrpcRoad

    where = joined(*parse_address(joining.address))
    token = read_token(joining.credentials.token_file) if joining.credentials.token_file else None
    if token is not None and not joining.credentials.ca:
        raise ConfigError("a token must not travel in the clear: say by --tls-ca whom to believe")
    road = GrpcRoad(where, joining.credentials)
    return SessionClient(road, where, joining.client, token, joining.timeout_s)


def _serve_mqtt(config: TransportConfig, clients: int) -> ServerEnd:
    from splitfl.transport.mqtt.server import serve_mqtt

    return serve_mqtt(config, clients)


def _join_mqtt(joining: Joining) -> ClientEnd:
    from splitfl.transport.mqtt.broker import Broker
    from splitfl.transport.mqtt.broker_survey import largest_chunk
    from splitfl.transport.mqtt.client import MqttRoad

    if joining.credentials.token_file:
        raise ConfigError("a broker takes no tokens: give --user and --password-file")
    broker = Broker.parse(joining.address, joining.credentials, joining.user, joining.password_file)
    chunk_bytes = largest_chunk(broker, broker.line("up", joining.client, "survey"), joining.timeout_s)
    road = MqttRoad(broker, joining.client, chunk_bytes)
    return SessionClient(road, joining.address, joining.client, None, joining.timeout_s)


def _open_to_all(config: TransportConfig) -> str:
    if config.secrets or config.tls_ca or config.token_file:
        return ""
    return "without transport.secrets, whoever reaches the port can take part: use it on closed networks only"


TRANSPORTS: Final[Mapping[str, Transport]] = {
    "rpc": Transport(
        about="PyTorch RPC: the fastest, on networks that are open in both directions and closed to others",
        serve=_serve_rpc,
        join=_join_rpc,
        resumes=False,
        warning=lambda config: "PyTorch RPC trusts whoever reaches its port: use it on closed networks only",
    ),
    "grpc": Transport(
        about="gRPC: one port, outbound from the clients, through firewalls, NAT and HTTP proxies; TLS",
        serve=_serve_grpc,
        join=_join_grpc,
        resumes=True,
        warning=_open_to_all,
    ),
    "mqtt": Transport(
        about="MQTT: through a broker that both sides reach, where neither reaches the other",
        serve=_serve_mqtt,
        join=_join_mqtt,
        resumes=True,
        warning=lambda config: "" if config.tls_ca else "whoever may use the broker can take part in the run",
    ),
}
