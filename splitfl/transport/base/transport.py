"""The transport protocol: a server's end and a client's end that exchange frames.

A client makes one request at a time and gets one reply. The server's end reports joining and
leaving peers as changes; their consequences for the run are not decided by the transport.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Answer = Callable[[bytes], None]
"""Sends the one reply to a request."""

Handler = Callable[[int, bytes, Answer], None]
"""Handles a request: the authenticated client, the frame, and the function that sends the reply."""


@dataclass(frozen=True, kw_only=True)
class PeerChange:
    """A client has joined, or is gone, with the reason.

    `session` counts the processes of this client: 1 for the first, and one more for each
    replacement. A reconnection belongs to the same session.
    """

    client: int
    is_here: bool
    session: int
    reason: str


class ServerEnd(Protocol):
    """The server's end of a transport."""

    @property
    def address(self) -> str:
        """The address for clients, as typed on the command line."""

    def offer(self, experiment: Mapping[str, Any]) -> None:
        """Publishes the experiment for clients to read."""

    def missing(self) -> list[int]:
        """The clients that are not ready yet."""

    def start(self, handler: Handler) -> None:
        """Starts the run: from now on requests are handled, in threads.

        `handler` may be called for several clients concurrently, never twice for one request.
        """

    def silent(self) -> list[int]:
        """The clients from which nothing was received within the transport's timeout."""

    def changes(self) -> list[PeerChange]:
        """Joins, losses and reconnections since the last call, in order."""

    def stop(self) -> None:
        """Sends pending replies, then closes without waiting for clients to leave."""


class ClientEnd(Protocol):
    """A client's end of a transport."""

    experiment: dict[str, Any]
    """The experiment that the server published."""

    def enter(self) -> None:
        """Reports this client as ready and waits for the others. Raises Timeout."""

    def request(self, frame: bytes) -> bytes:
        """The server's reply. Raises Timeout or PeerLost."""

    def leave(self) -> None:
        """Leaves the run; a pending request raises PeerLost."""
