"""The server's end over a transport whose connections may break: a session registry and a listener."""

from collections.abc import Mapping
from typing import Any, Protocol

from splitfl.transport.base.transport import Handler, PeerChange
from splitfl.transport.session.session_registry import SessionRegistry


class Listener(Protocol):
    """Accepts connections: passes received chunks to the registry and sends those of its sessions."""

    @property
    def address(self) -> str:
        """The address for clients, as typed on the command line."""

    def close(self) -> None:
        """Sends pending chunks for a short time, then closes."""


class SessionServer:
    """A `ServerEnd` of a session registry and a listener."""

    def __init__(self, registry: SessionRegistry, listener: Listener) -> None:
        self._registry, self._listener = registry, listener

    @property
    def address(self) -> str:
        return self._listener.address

    def offer(self, experiment: Mapping[str, Any]) -> None:
        self._registry.offer(experiment)

    def missing(self) -> list[int]:
        return self._registry.missing()

    def start(self, handler: Handler) -> None:
        self._registry.start(handler)

    def silent(self) -> list[int]:
        return self._registry.silent()

    def changes(self) -> list[PeerChange]:
        return self._registry.changes()

    def stop(self) -> None:
        self._registry.close()
        self._listener.close()
