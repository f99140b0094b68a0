"""Where a hub listens, and which network it makes."""

import ipaddress
import socket

from splitfl.errors import ConfigError
from splitfl.transport.addresses import is_ipv6, parse_address


def network_of(text: str) -> ipaddress.IPv4Network:
    """An IPv4 network like 10.99.0.0/24 with room for a hub and a client; ConfigError for anything else."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ConfigError(
            f"an overlay has an IPv4 network like 10.99.0.0/24, got {text!r}: {error}"
        ) from None
    if not 8 <= network.prefixlen <= 30:
        raise ConfigError(f"a network's prefix must lie in 8..30, got {text!r}")
    return network


def listener_at(text: str) -> socket.socket:
    """A socket that listens at HOST:PORT; ConfigError where that cannot be."""
    host, port = parse_address(text)
    try:
        family = socket.AF_INET6 if is_ipv6(host) else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(f"cannot listen on {text}: {error.strerror}") from None
