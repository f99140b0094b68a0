"""What was found of the network between a server and its clients, and whether a transport works over it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PASSES: Final = ("open", "refused")
"""A refusal comes from the machine itself: packets reach it, and only no process listens."""


@dataclass(frozen=True, kw_only=True)
class ClientReach:
    """Outcomes of a client's connections: to the server's port, to and from random ports of the server, both
    ways between it and the first client, and to the broker.

    Each is open, refused (no process listens), rejected (by a firewall), silent or unreachable; unknown
    where it could not be tried.
    """

    client: str
    port: str = "unknown"
    up: str = "unknown"
    down: str = "unknown"
    side: str = "unknown"
    broker: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class Reach:
    """The outcomes of all clients, and of the server's connection to the broker."""

    clients: Sequence[ClientReach]
    server_to_broker: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Whether a transport will work, and why or why not."""

    works: bool
    why: str
