"""Measured reachability between a server and its clients, and a transport's diagnosis of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PASSES: Final = ("open", "refused")
"""Outcomes without a firewall on the path: a refusal means that no process listens."""


@dataclass(frozen=True, kw_only=True)
class ClientReach:
    """The outcomes of a client's connections.

    `port`: to the server's port; `up` and `down`: to and from random ports of the server; `side`: both
    directions between it and the first client; `broker`: to the broker. Each is open, refused (no process
    listens), rejected (by a firewall), silent or unreachable; unknown if it could not be tried.
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
    """Whether a transport will work, and the reason."""

    works: bool
    why: str
