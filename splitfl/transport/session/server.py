"""The server's end over a transport whose connections may break: a session registry and a listener."""

from collections.abc import Mapping
from typing import Any, Protocol

from splitfl.transport.base.transport import Handler, PeerChange
from splitfl.transport.session.session_registry import SessionRegistry


class Entrance(Protocol):
    """Accepts connections: passes received chunks to the registry and sends those of its sessions."""

    @property
    def address(self) -> str:
        """The address for clients, as typed on the command line."""

    def close(self) -> None:
        """Sends pending chunks for a short time, then closes."""


class SessionServer:
    """A `ServerEnd` of a session registry and a listener."""

    def __init__(self, desk: SessionRegistry, entrance: Entrance) -> None:
        self._desk, self._entrance = desk, entrance

    @property
    def address(self) -> str:
        return self._entrance.address

    def offer(self, experiment: Mapping[str, Any]) -> None:
        self._desk.offer(experiment)

    def missing(self) -> list[int]:
        return self._desk.missing()

    def start(self, handler: Handler) -> None:
        self._desk.start(handler)

    def silent(self) -> list[int]:
        return self._desk.silent()

    def changes(self) -> list[PeerChange]:
        return self._desk.changes()

    def stop(self) -> None:
        self._desk.close()
        self._entrance.close()
