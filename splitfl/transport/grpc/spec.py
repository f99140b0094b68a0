"""gRPC as a plug-in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from splitfl.config import TransportConfig, group
from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import joined, parse_address, refuse_unknown
from splitfl.transport.base.interfaces import listening_address, refuse_taken
from splitfl.transport.base.proxies import proxy_towards
from splitfl.transport.base.reachability import PASSES, Diagnosis, Reach
from splitfl.transport.base.spec import Joining, TransportSpec
from splitfl.transport.base.transport import ClientEnd, ServerEnd
from splitfl.transport.security.credentials import Credentials, TlsFiles, Tokens, read_token


@dataclass(frozen=True, kw_only=True)
class GrpcSettings:
    """Secrets are named by their files.

    `secrets` is a folder from `splitfl certs` and stands for all of the server's; else `token_file` has the
    hashes of the clients' tokens.
    """

    secrets: str = ""
    tls: TlsFiles = group(TlsFiles)
    token_file: str = ""

    def __post_init__(self) -> None:
        if self.secrets and (self.tls != TlsFiles() or self.token_file):
            raise ConfigError(
                "transport.secrets stands for all of the server's files: name no others beside it"
            )

    def credentials(self) -> Credentials:
        """The server's files."""
        if self.secrets:
            return Credentials.in_folder(Path(self.secrets), "server")
        return self.tls.credentials(self.token_file)


def _serve(config: TransportConfig, clients: int) -> ServerEnd:
    from splitfl.transport.grpc.server import CHUNK_BYTES, GrpcListener
    from splitfl.transport.session.server import SessionServer
    from splitfl.transport.session.session_registry import SessionRegistry

    credentials = config.of(GrpcSettings).credentials()
    tokens = Tokens.read(credentials.token_file) if credentials.token_file else None
    if tokens is not None and not credentials.cert:
        raise ConfigError("tokens must not travel in the clear: give transport.tls_cert and tls_key too")
    registry = SessionRegistry(clients, config.timeout_s, config.join_timeout_s, CHUNK_BYTES, tokens=tokens)
    return SessionServer(registry, GrpcListener(config.host, config.port, registry, credentials))


def _join(joining: Joining) -> ClientEnd:
    from splitfl.transport.grpc.client import GrpcConnector
    from splitfl.transport.session.client import SessionClient

    where = joined(*parse_address(joining.address))
    token = read_token(joining.credentials.token_file) if joining.credentials.token_file else None
    if token is not None and not joining.credentials.ca:
        raise ConfigError("a token must not travel in the clear: say by --tls-ca whom to believe")
    connector = GrpcConnector(where, joining.credentials)
    return SessionClient(connector, where, joining.client, token, joining.timeout_s)


def _check_server(config: TransportConfig) -> None:
    refuse_taken(listening_address(config.host, "gRPC", takes_ipv6=True), config.port)
    own = config.of(GrpcSettings).credentials()
    own.check()
    if own.token_file:
        Tokens.read(own.token_file)


def _check_join(joining: Joining) -> None:
    host, _ = parse_address(joining.address)
    own = joining.credentials
    own.check()
    if own.token_file:
        read_token(own.token_file)
    if proxy_towards(host) is None:  # which may know names that this machine does not
        refuse_unknown(host)


def _join_options(config: TransportConfig) -> list[str]:
    """Raises ConfigError where the settings name the server's files only."""
    own = config.of(GrpcSettings)
    if own.tls.tls_cert:
        raise ConfigError(
            "the clients that `run` starts find their files in transport.secrets: name that folder"
        )
    return ["--secrets", own.secrets] if own.secrets else []


def _warning(config: TransportConfig) -> str:
    own = config.of(GrpcSettings)
    if own.secrets or own.tls.tls_ca or own.token_file:
        return ""
    return "without transport.secrets, anyone who reaches the port can join the run: use closed networks only"


def _encrypts(config: TransportConfig) -> bool:
    own = config.of(GrpcSettings)
    return bool(own.secrets or own.tls.tls_cert)


def _diagnose(reach: Reach) -> Diagnosis:
    closed = [f"{one.client} finds it {one.port}" for one in reach.clients if one.port not in PASSES]
    if closed:
        return Diagnosis(works=False, why=f"the server's port is closed: {'; '.join(closed)}")
    return Diagnosis(works=True, why="every client reaches the server's one port")


SPEC: Final = TransportSpec(
    about="gRPC: one port, outbound from the clients, through firewalls, NAT and HTTP proxies; TLS",
    describe="in separate processes over gRPC",
    serve=_serve,
    join=_join,
    check_server=_check_server,
    check_join=_check_join,
    join_options=_join_options,
    settings=GrpcSettings,
    resumes=True,
    warning=_warning,
    encrypts=_encrypts,
    diagnose=_diagnose,
)
