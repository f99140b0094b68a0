"""The HTTP proxy that gRPC takes from the environment, computed by the same rules for messages to the user.

Servers on this machine are always reached directly.
"""

import ipaddress
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from splitfl.transport.base.interfaces import addresses

_VARIABLES: Final = ("grpc_proxy", "https_proxy", "http_proxy")
_EXCEPTIONS: Final = ("no_grpc_proxy", "no_proxy")


@dataclass(frozen=True)
class Proxy:
    """A proxy from an environment variable; `where` is its host and port, without password."""

    variable: str
    where: str

    def __str__(self) -> str:
        return f"through the HTTP proxy {self.where} that the variable {self.variable} names"


def proxy_towards(host: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy that gRPC uses for this host, or None for a direct connection."""
    variable = next((name for name in _VARIABLES if environment.get(name)), None)
    if variable is None or is_here(host):
        return None
    excepted = next((environment[name] for name in _EXCEPTIONS if environment.get(name)), "")
    if any(_covers(entry.strip(), host) for entry in excepted.split(",")):
        return None
    found = urlsplit(environment[variable])
    return Proxy(variable, found.netloc.rpartition("@")[2] or environment[variable].rpartition("@")[2])


def is_here(host: str) -> bool:
    """Whether this host is this machine: a loopback or own address, or a name of such addresses only."""
    try:
        found = {str(ipaddress.ip_address(host))}
    except ValueError:
        found = _addresses_of(host)
    own = {one for held in addresses(socket.AF_INET, socket.AF_INET6).values() for one in held}
    return bool(found) and all(one in own or ipaddress.ip_address(one).is_loopback for one in found)


def _addresses_of(name: str) -> set[str]:
    if name == "localhost" or name.endswith(".localhost"):
        return {"127.0.0.1"}
    try:
        return {str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return set()


def _covers(entry: str, host: str) -> bool:
    """Whether an entry of no_proxy matches, by gRPC's rules: a suffix of the name, or a network."""
    if not entry:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry)
    except ValueError:
        return host.lower().endswith(entry.lower())
