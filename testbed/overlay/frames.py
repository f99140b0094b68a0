"""What crosses an overlay's connection: IPv4 packets as they are, and a few words before and between them.

A frame is a header of four bytes (version, kind, length in network order) and its payload.
The first frame of a client is HELLO, which the hub answers with WELCOME or REFUSED; after
that come PACKETs and, where there is nothing to carry, PINGs.
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
MAX_WORDS_BYTES: Final = 4096
MIN_MTU, MAX_MTU = 576, MAX_PAYLOAD_BYTES
_IP_HEADER_BYTES: Final = 20


@dataclass(frozen=True, kw_only=True)
class Hello:
    """What a client says first: who it is, its token, and the address that it had before."""

    name: str
    session: str
    token: str = ""
    address: str = ""


@dataclass(frozen=True, kw_only=True)
class Welcome:
    """What the hub answers: the client's address and its prefix, the hub's own, and the largest packet."""

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
    """Why the hub takes this client not at all, or not now."""

    reason: str
    is_final: bool


Said = TypeVar("Said", Hello, Welcome, Refused)


def frame(kind: int, payload: bytes) -> bytes:
    """One frame. The payload has at most 65535 bytes."""
    return HEADER.pack(VERSION, kind, len(payload)) + payload


def words(kind: int, said: Hello | Welcome | Refused) -> bytes:
    """One frame of words; raises WireError where they are too many."""
    payload = json.dumps(asdict(said)).encode()
    if len(payload) > MAX_WORDS_BYTES:
        raise WireError(f"words of {len(payload)} bytes, at most {MAX_WORDS_BYTES} are allowed")
    return frame(kind, payload)


def header(buffer: bytes | bytearray | memoryview, at: int) -> tuple[int, int]:
    """The kind and payload length of the frame that begins there; WireError for what is none."""
    version, kind, length = HEADER.unpack_from(buffer, at)
    if version != VERSION:
        raise WireError(f"the peer speaks version {version} of the overlay's protocol, this side {VERSION}")
    if kind > PING:
        raise WireError(f"a frame of the unknown kind {kind}")
    if kind != PACKET and length > MAX_WORDS_BYTES:
        raise WireError(f"words of {length} bytes, at most {MAX_WORDS_BYTES} are allowed")
    if kind == PACKET and length < _IP_HEADER_BYTES:
        raise WireError(f"a packet of {length} bytes is no IPv4 packet")
    return kind, length


def read_words(kind: type[Said], payload: bytes) -> Said:
    """The words of a frame, which must be of this kind; WireError for anything else."""
    try:
        said = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise WireError(f"words that are no JSON: {error}") from None
    wanted = {field.name: field.type for field in fields(kind)}
    if not isinstance(said, dict) or {name: type(value) for name, value in said.items()} != wanted:
        raise WireError(f"words that are no {kind.__name__}")
    return kind(**said)
