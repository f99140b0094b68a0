"""A hub's listening socket, and validation of its network."""

import ipaddress
import json
import socket
from typing import Final

from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import is_ipv6, parse_address
from testbed.namespaces import ip

_AS_GOOD_AS_DEFAULT: Final = 1
"""The prefix length of the two routes by which a VPN replaces the default route."""


def network_of(text: str) -> ipaddress.IPv4Network:
    """An IPv4 network like 10.99.0.0/24 with room for a hub and a client. Raises ConfigError."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as error:
        raise ConfigError(
            f"an overlay's network must be an IPv4 network like 10.99.0.0/24, got {text!r}: {error}"
        ) from None
    if not 8 <= network.prefixlen <= 30:
        raise ConfigError(f"a network's prefix must lie in 8..30, got {text!r}")
    return network


def refuse_in_use(network: ipaddress.IPv4Network) -> None:
    """Raises ConfigError if this machine has an address or a route in the network, which would become
    unreachable."""
    for route in json.loads(ip("-json", "-4", "route", "show", "table", "all")):
        target = str(route["dst"])
        if target == "default":
            continue
        held = ipaddress.IPv4Network(target)
        if held.prefixlen > _AS_GOOD_AS_DEFAULT and held.overlaps(network):
            where = f"on {route['dev']}" if "dev" in route else "by a route"
            raise ConfigError(
                f"the overlay's network {network} is in use on this machine, which has {held} {where}; "
                "choose another with the hub's --network"
            )


def listener_at(text: str) -> socket.socket:
    """A socket that listens at HOST:PORT. Raises ConfigError if that fails."""
    host, port = parse_address(text)
    try:
        family = socket.AF_INET6 if is_ipv6(host) else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(f"cannot listen on {text}: {error.strerror}") from None
