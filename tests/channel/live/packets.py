"""IPv4 packets as they come out of a TUN device, with nothing in them."""

import ipaddress

NETWORK = "10.77.0.0/24"
SERVER = "10.77.0.1"
CLIENTS = ("10.77.0.2", "10.77.0.3")


def packet(source: str, target: str, size_bytes: int = 1000, mark: int = 0) -> bytes:
    """A header (RFC 791) with the addresses, and the mark behind it; nobody here looks at the rest."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(target).packed
    header = bytes([0x45]) + bytes(11) + addresses
    return (header + mark.to_bytes(4, "big")).ljust(size_bytes, b"\0")


def mark_of(one: bytes) -> int:
    """The mark that it was made with."""
    return int.from_bytes(one[20:24], "big")
