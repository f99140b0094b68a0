"""Which network interface this machine is reached by.

PyTorch RPC publishes an address to its peers. Left to itself it looks up the host's own
name, which on many systems is 127.0.1.1 and reaches nobody.
"""

import ipaddress
import socket

import psutil

from splitfl.errors import ConfigError, PeerLost


def interface_of(address: str) -> str:
    """The name of the interface that holds this IPv4 address; ConfigError where none does."""
    held = addresses()
    for name, one in held.items():
        if address in one:
            return name
    known = ", ".join(f"{name} ({', '.join(one)})" for name, one in sorted(held.items()))
    raise ConfigError(f"no interface of this machine has the address {address}; have {known}")


def address_towards(host: str, port: int) -> str:
    """The IPv4 address of this machine from which `host` is reached; nothing is sent."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, port))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise PeerLost(f"no way from this machine to {host}: {error}") from None


def listening_address(host: str) -> str:
    """The IPv4 address to listen on and to publish for `host`.

    A name that means 127.0.1.1, and 0.0.0.0, which nobody can be told, are refused with
    the addresses that would do.
    """
    try:
        address = socket.gethostbyname(host)
    except OSError as error:
        raise ConfigError(f"transport.host {host!r} has no address: {error}") from None
    unusable = address == "0.0.0.0" or (address.startswith("127.") and address != "127.0.0.1")
    if unusable:
        usable = sorted(one for held in addresses().values() for one in held)
        raise ConfigError(
            f"transport.host {host!r} means {address}, at which no other machine finds this one; "
            f"give one of {', '.join(usable)}"
        )
    interface_of(address)
    return address


def public_address() -> str:
    """The one address at which other machines reach this one; ConfigError where there is a choice.

    A machine without a network has the loopback address only.
    """
    found = sorted(one for held in addresses().values() for one in held if not one.startswith("127."))
    if len(found) > 1:
        raise ConfigError(f"this machine has the addresses {', '.join(found)}; give one with --host")
    return found[0] if found else "127.0.0.1"


def addresses() -> dict[str, list[str]]:
    """The IPv4 addresses of every interface that is up."""
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = {
        name: [entry.address for entry in entries if entry.family == socket.AF_INET]
        for name, entries in psutil.net_if_addrs().items()
        if name in up
    }
    return {name: held for name, held in found.items() if held}


def refuse_taken(address: str, port: int) -> None:
    """Raises ConfigError where somebody listens on this port of this machine already."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise ConfigError(f"cannot listen on {address}:{port}: {error.strerror}") from None


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` in two; ConfigError for anything else."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError(f"a server's address is HOST:PORT, got {text!r}")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host.replace(".", "").isdigit():
            raise ConfigError(f"{host!r} is neither a host's name nor an address") from None
    return host, int(port)
