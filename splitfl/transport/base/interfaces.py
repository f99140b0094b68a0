"""The network interface and address of this machine for its peers.

PyTorch RPC publishes an address to its peers. By default it resolves the host's own
name, which on many systems gives 127.0.1.1, unreachable from other machines.
"""

import ipaddress
import socket
from collections.abc import Sequence

import psutil

from splitfl.core.errors import ConfigError, PeerLost
from splitfl.transport.base.addresses import joined, refuse_ipv6


def interface_of(address: str) -> str:
    """The name of the interface with this address. Raises ConfigError if there is none."""
    held = addresses(socket.AF_INET6 if ":" in address else socket.AF_INET)
    for name, one in held.items():
        if address in one:
            return name
    known = ", ".join(f"{name} ({', '.join(one)})" for name, one in sorted(held.items()))
    raise ConfigError(f"no interface of this machine has the address {address}; have {known}")


def address_towards(host: str, port: int) -> str:
    """The local IPv4 address of the route to `host`; nothing is sent. Raises PeerLost without a route."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise PeerLost(f"no IPv4 route from this machine to {host}: {error}") from None


def listening_address(host: str, what: str, *, takes_ipv6: bool) -> str:
    """The address to listen on and to publish for `host`, preferably IPv4.

    Raises ConfigError, with the usable addresses, for a name that resolves to 127.0.1.1 and for 0.0.0.0
    or ::, which cannot be published, and for an IPv6 address that `what` does not support.
    """
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"transport.host {host!r} has no address: {error}") from None
    found = [str(entry[4][0]) for entry in sorted(entries, key=lambda entry: entry[0] != socket.AF_INET)]
    address = found[0]
    families = [socket.AF_INET, *([socket.AF_INET6] if takes_ipv6 else [])]
    if not takes_ipv6:
        refuse_ipv6(what, address)
    is_loopback = address.startswith("127.") and address != "127.0.0.1"
    if ipaddress.ip_address(address).is_unspecified or is_loopback:
        usable = sorted(one for held in addresses(*families).values() for one in held)
        raise ConfigError(
            f"transport.host {host!r} resolves to {address}, which other machines cannot reach; "
            f"use one of {', '.join(usable)}"
        )
    interface_of(address)
    return address


def public_address() -> str:
    """The address of this machine for others; 127.0.0.1 without a network.

    Raises ConfigError if there are several.
    """
    found = sorted(one for held in addresses().values() for one in held if not one.startswith("127."))
    if len(found) > 1:
        raise ConfigError(f"this machine has the addresses {', '.join(found)}; give one with --host")
    if not found and (over_ipv6 := _global_ipv6()):
        raise ConfigError(f"this machine has no IPv4 address; give one of {', '.join(over_ipv6)} with --host")
    return found[0] if found else "127.0.0.1"


def addresses(*families: int) -> dict[str, list[str]]:
    """The addresses of every interface that is up, of these families (default: IPv4)."""
    wanted = families or (socket.AF_INET,)
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = {
        name: [entry.address for entry in entries if entry.family in wanted]
        for name, entries in psutil.net_if_addrs().items()
        if name in up
    }
    return {name: held for name, held in found.items() if held}


def refuse_taken(address: str, port: int) -> None:
    """Raises ConfigError if this port is in use."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise ConfigError(f"cannot listen on {joined(address, port)}: {error.strerror}") from None


def _global_ipv6() -> Sequence[str]:
    held = (one for every in addresses(socket.AF_INET6).values() for one in every)
    return sorted(one for one in held if not _is_local(one))


def _is_local(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return found.is_loopback or found.is_link_local
