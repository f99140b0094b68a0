"""Frames of an overlay's connection: IPv4 packets, and control messages in JSON.

A frame is a header of four bytes (version, kind, length in network order) and its payload.
The first frame of a client is HELLO, which the hub answers with WELCOME or REFUSED; then
both sides send PACKETs and, when idle, PINGs.
"""

import ipaddress
import json
import struct
from dataclasses import asdict, dataclass, fields
from typing import Final, TypeVar

from splitfl.core.errors import WireError

VERSION: Final = 1
PACKET, HELLO, WELCOME, REFUSED, PING = range(5)
HEADER: Final = struct.Struct("!BBH")
MAX_PAYLOAD_BYTES: Final = 65535
MAX_CONTROL_BYTES: Final = 4096
MIN_MTU, MAX_MTU = 576, MAX_PAYLOAD_BYTES
_IP_HEADER_BYTES: Final = 20


@dataclass(frozen=True, kw_only=True)
class Hello:
    """A client's first message: its name, session and token, and its previous address, if any."""

    name: str
    session: str
    token: str = ""
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """The hub's answer: the client's address with prefix, the hub's address, and the MTU in bytes."""

    address: str
    hub: str
    mtu: int

    def __post_init__(self) -> None:
        try:
            ipaddress.IPv4Interface(self.address)
            ipaddress.IPv4Address(self.hub)
        except ValueError as error:
            raise WireError(f"a welcome with a bad address: {error}") from None
        if not MIN_MTU <= self.mtu <= MAX_MTU:
            raise WireError(f"a welcome's mtu must lie in {MIN_MTU}..{MAX_MTU}, got {self.mtu}")


@dataclass(frozen=True, kw_only=True)
class Refused:
    """The hub's rejection; `is_final` tells the client not to retry."""

    reason: str
    is_final: bool


ControlMessage = TypeVar("ControlMessage", Hello, Welcome, Refused)


def frame(kind: int, payload: bytes) -> bytes:
    """An encoded frame. The payload has at most 65535 bytes."""
    return HEADER.pack(VERSION, kind, len(payload)) + payload


def encode_control(kind: int, message: Hello | Welcome | Refused) -> bytes:
    """An encoded control message. Raises WireError if it is too long."""
    payload = json.dumps(asdict(message)).encode()
    if len(payload) > MAX_CONTROL_BYTES:
        raise WireError(f"a control message of {len(payload)} bytes, at most {MAX_CONTROL_BYTES} are allowed")
    return frame(kind, payload)


def header(buffer: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """The kind and payload length of the frame at this offset. Raises WireError for an invalid header."""
    version, kind, length = HEADER.unpack_from(buffer, at)
    if version != VERSION:
        raise WireError(f"the peer speaks version {version} of the overlay's protocol, this side {VERSION}")
    if kind > PING:
        raise WireError(f"a frame of unknown kind {kind}")
    if kind != PACKET and length > MAX_CONTROL_BYTES:
        raise WireError(f"a control message of {length} bytes, at most {MAX_CONTROL_BYTES} are allowed")
    if kind == PACKET and length < _IP_HEADER_BYTES:
        raise WireError(f"a packet of {length} bytes is not an IPv4 packet")
    return kind, length


def decode_control(kind: type[ControlMessage], payload: bytes) -> ControlMessage:
    """The control message of a frame, of this kind. Raises WireError for anything else."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a control message that is not JSON: {error}") from None
    wanted = {field.name: field.type for field in fields(kind)}
    if not isinstance(message, dict) or {name: type(value) for name, value in message.items()} != wanted:
        raise WireError(f"a control message that is not a {kind.__name__}")
    return kind(**message)
