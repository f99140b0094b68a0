"""The server's end over any road whose connections may break: a desk, and what brings clients to it."""

from collections.abc import Mapping
from typing import Any, Protocol

from splitfl.transport.base.transport import Handler, PeerChange
from splitfl.transport.session.session_registry import SessionRegistry


class Entrance(Protocol):
    """Brings hellos and parcels to a desk, and what sessions have to say to clients."""

    @property
    def address(self) -> str:
        """Where clients find it, in words that a person may type."""

    def close(self) -> None:
        """Lets what sessions still say go out, for a moment, then closes."""


class SessionServer:
    """See ServerEnd."""

    def __init__(self, desk: SessionRegistry, entrance: Entrance) -> None:
        self._desk, self._entrance = desk, entrance

    @property
    def address(self) -> str:
        """See ServerEnd."""
        return self._entrance.address

    def offer(self, experiment: Mapping[str, Any]) -> None:
        """See ServerEnd."""
        self._desk.offer(experiment)

    def missing(self) -> list[int]:
        """See ServerEnd."""
        return self._desk.missing()

    def start(self, handler: Handler) -> None:
        """See ServerEnd."""
        self._desk.start(handler)

    def silent(self) -> list[int]:
        """See ServerEnd."""
        return self._desk.silent()

    def changes(self) -> list[PeerChange]:
        """See ServerEnd."""
        return self._desk.changes()

    def stop(self) -> None:
        """See ServerEnd."""
        self._desk.close()
        self._entrance.close()
