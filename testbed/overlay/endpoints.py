"""Where a hub listens, and which network it makes."""

import ipaddress
import json
import socket
from typing import Final

from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import is_ipv6, parse_address
from testbed.namespaces import ip

_AS_GOOD_AS_DEFAULT: Final = 1
"""A VPN takes the default route's place by two halves of everything; they are nobody's own range either."""


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


def refuse_in_use(network: ipaddress.IPv4Network) -> None:
    """Raises ConfigError where this machine has an address or a route in this network: what it reaches there,
    its gateway perhaps, would be cut off."""
    for route in json.loads(ip("-json", "-4", "route", "show", "table", "all")):
        target = str(route["dst"])
        if target == "default":
            continue
        held = ipaddress.IPv4Network(target)
        if held.prefixlen > _AS_GOOD_AS_DEFAULT and held.overlaps(network):
            where = f"on {route['dev']}" if "dev" in route else "by a route"
            raise ConfigError(
                f"the overlay's network {network} is in use on this machine: it has {held} {where}; "
                "choose another by the hub's --network"
            )


def listener_at(text: str) -> socket.socket:
    """A socket that listens at HOST:PORT; ConfigError where that cannot be."""
    host, port = parse_address(text)
    try:
        family = socket.AF_INET6 if is_ipv6(host) else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise ConfigError(f"cannot listen on {text}: {error.strerror}") from None
