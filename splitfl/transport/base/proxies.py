"""Which HTTP proxy gRPC goes through: it reads the environment by itself, and this says the same aloud.

What is on this machine is never behind a proxy, whatever the environment says.
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
    """An environment variable that names a proxy; `where` is its host and port, without any password."""

    variable: str
    where: str

    def __str__(self) -> str:
        return f"through the HTTP proxy {self.where} that the variable {self.variable} names"


def proxy_towards(host: str, environment: Mapping[str, str] = os.environ) -> Proxy | None:
    """The proxy that gRPC takes to this host, or None where it connects by itself."""
    variable = next((name for name in _VARIABLES if environment.get(name)), None)
    if variable is None or is_here(host):
        return None
    excepted = next((environment[name] for name in _EXCEPTIONS if environment.get(name)), "")
    if any(_covers(entry.strip(), host) for entry in excepted.split(",")):
        return None
    found = urlsplit(environment[variable])
    return Proxy(variable, found.netloc.rpartition("@")[2] or environment[variable].rpartition("@")[2])


def is_here(host: str) -> bool:
    """Whether this host is this machine: a loopback address, or one of its own, or a name of nothing else."""
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
    """As gRPC has it: the end of the host's name, or a network that its address lies in."""
    if not entry:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry)
    except ValueError:
        return host.lower().endswith(entry.lower())
