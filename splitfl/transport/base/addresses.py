"""Parsing of `HOST:PORT`, over IPv4 and IPv6."""

import ipaddress
import socket
from collections.abc import Mapping
from typing import Final

from splitfl.core.errors import ConfigError

_TRANSPORTS_OVER_IPV6: Final = "grpc and mqtt"


def parse_address(text: str, *, least_port: int = 1, name: str = "a server's address") -> tuple[str, int]:
    """Host (without the brackets of an IPv6 address) and port. Raises ConfigError for anything else."""
    host, colon, port = text.rpartition(":")
    is_bracketed = host.startswith("[") and host.endswith("]")
    if is_bracketed:
        host = host[1:-1]
    is_port = port.isascii() and port.isdigit() and least_port <= int(port[:6]) < 65536
    if not is_bracketed and (is_ipv6(text) or is_ipv6(host)):
        raise ConfigError(f"an IPv6 address must be in brackets, as in [::1]:29500, got {text!r}")
    if not colon or not host or not is_port or (is_bracketed and not is_ipv6(host)):
        raise ConfigError(f"{name} must be HOST:PORT, got {text!r}")
    if not is_ipv6(host) and not _may_be_host(host):
        raise ConfigError(f"{host!r} is neither a host's name nor an address")
    return host, int(port)


def joined(host: str, port: int) -> str:
    """`HOST:PORT`, the inverse of `parse_address`."""
    return f"[{host}]:{port}" if is_ipv6(host) else f"{host}:{port}"


def joined_by_name(addresses: Mapping[str, str]) -> str:
    """A server's addresses over several transports as one text: `rpc HOST:PORT, grpc HOST:PORT`."""
    return ", ".join(f"{name} {address}" for name, address in addresses.items())


def address_over(name: str, address: str) -> str:
    """The address over this transport in a text of `joined_by_name`; any other text is one address."""
    named = dict(one.partition(" ")[::2] for one in address.split(", "))
    return named.get(name, address)


def is_ipv6(host: str) -> bool:
    """Whether this is an IPv6 address, not a name."""
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False


def refuse_ipv6(what: str, host: str) -> None:
    """Raises ConfigError for an IPv6 address, which `what` does not support."""
    if is_ipv6(host):
        raise ConfigError(
            f"{what} takes IPv4 addresses only, got {host!r}; IPv6 is for the transports "
            f"{_TRANSPORTS_OVER_IPV6}"
        )


def refuse_unknown(host: str) -> None:
    """Raises ConfigError for a name that does not exist, but not for a temporary DNS failure."""
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno != socket.EAI_AGAIN:
            raise ConfigError(f"the host {host!r} has no address: {error.strerror}") from None
    except UnicodeError:
        raise ConfigError(f"{host!r} is neither a host's name nor an address") from None


def _may_be_host(host: str) -> bool:
    """Digits and dots must be an IPv4 address; names have no colons or brackets."""
    if host.replace(".", "").isdigit():
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
    return not any(sign in host for sign in ":[]/@ ")
