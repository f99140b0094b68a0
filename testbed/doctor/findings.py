"""What the doctor found, one line each."""

from dataclasses import dataclass
from typing import Final

GOOD, WARNING, BAD, INFO = "ok", "warning", "bad", "info"
ACCESS: Final = "access"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check on one node, or on the way between two: ok, warning, bad or info, and why."""

    node: str
    check: str
    state: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Way:
    """How connections of a client fare: to the server's port, to and from random ports of the server, both
    ways between it and the first client, and to the broker.

    Each is open, refused (nobody listens), rejected (somebody does), silent or unreachable; unknown
    where nobody could look.
    """

    client: str
    port: str = "unknown"
    up: str = "unknown"
    down: str = "unknown"
    side: str = "unknown"
    broker: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Whether a transport will work between these machines, and why or why not."""

    transport: str
    works: bool
    why: str


PASSES: Final = ("open", "refused")
"""A refusal comes from the machine itself: the way there is free, and only nobody listens."""
