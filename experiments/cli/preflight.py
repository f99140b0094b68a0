"""What can be refused before torch and the data are loaded: hosts, ports, files of secrets, links.

Whoever mistypes one of them is told in a second. Everything here is looked at again where it is used.
"""

from collections.abc import Iterable
from dataclasses import replace

from experiments import presets
from splitfl.config import RunConfig
from splitfl.setup.links import check_link
from splitfl.transport.base.addresses import parse_address, refuse_ipv6, refuse_unknown
from splitfl.transport.base.interfaces import listening_address, public_address, refuse_taken
from splitfl.transport.base.proxies import proxy_towards
from splitfl.transport.mqtt.broker import Broker
from splitfl.transport.security.credentials import Credentials, Tokens, read_token, server_credentials


def check_run(preset: str, overrides: Iterable[str]) -> None:
    """Raises ConfigError for a server on this machine that cannot be, and for a link that cannot."""
    config = presets.without_learning(preset, overrides)
    check_server(config)
    check_link(config)


def check_serving(preset: str, overrides: Iterable[str]) -> None:
    """The same for a server whose clients are elsewhere, and who must be told where it is."""
    chosen = list(overrides)
    config = presets.without_learning(preset, chosen)
    name = "rpc" if config.transport.name == "inproc" else config.transport.name
    is_told = name == "mqtt" or any(one.startswith("transport.host") for one in chosen)
    host = config.transport.host if is_told else public_address()
    check_server(replace(config, transport=replace(config.transport, name=name, host=host)))
    check_link(config)


def check_air(preset: str, overrides: Iterable[str]) -> None:
    """Raises ConfigError for a link that cannot be."""
    check_link(presets.without_learning(preset, overrides))


def check_server(config: RunConfig) -> None:
    """Raises ConfigError for an address that is not this machine's, a broker that nobody knows, bad files."""
    transport = config.transport
    match transport.name:
        case "inproc":
            return
        case "mqtt":
            broker = Broker.of(transport)
            broker.check()
            refuse_unknown(broker.host)
        case name:
            what = "gRPC" if name == "grpc" else "PyTorch RPC"
            address = listening_address(transport.host, what, takes_ipv6=name == "grpc")
            refuse_taken(address, transport.port)
            own = server_credentials(transport)
            own.check()
            if own.token_file:
                Tokens.read(own.token_file)


def check_joining(name: str, address: str, own: Credentials, user: str, password_file: str) -> None:
    """Raises ConfigError for an address that is none, a host that nobody knows, and bad files."""
    if name == "mqtt":
        broker = Broker.parse(address, own, user, password_file)
        broker.check()
        refuse_unknown(broker.host)
        return
    host, _ = parse_address(address)
    if name == "rpc":
        refuse_ipv6("PyTorch RPC", host)
        refuse_unknown(host)
        return
    own.check()
    if own.token_file:
        read_token(own.token_file)
    if proxy_towards(host) is None:  # which may know names that this machine does not
        refuse_unknown(host)
