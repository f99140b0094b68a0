"""What a transport is: a server's end and a client's end that carry frames, and nothing else.

A client makes one request at a time and gets one reply. Peers come and go, which the
server's end tells as changes; what becomes of a run then is not the transport's affair.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Answer = Callable[[bytes], None]
"""Takes the one answer to a request."""

Handler = Callable[[int, bytes, Answer], None]
"""Takes who sent a frame, as the transport knows it, the frame, and what to answer it by."""


@dataclass(frozen=True, kw_only=True)
class PeerChange:
    """A client has come, or is gone, and why.

    `session` counts the processes that have been this client: 1 for the first, and one
    more for each that took its place. A reconnection is the same session.
    """

    client: int
    is_here: bool
    session: int
    reason: str


class ServerEnd(Protocol):
    """The server's end of a transport."""

    @property
    def address(self) -> str:
        """Where clients find it, in words that a person may type."""

    def offer(self, experiment: Mapping[str, Any]) -> None:
        """Puts up what is to be run, for clients to read."""

    def missing(self) -> list[int]:
        """The clients that are not ready yet."""

    def start(self, handler: Handler) -> None:
        """Lets the clients go; answers their frames from now on, in threads.

        `handler` may be called for several clients at once, never twice for one request.
        """

    def silent(self) -> list[int]:
        """Clients of whom nothing was heard for as long as the transport waits."""

    def changes(self) -> list[PeerChange]:
        """Who has come, gone or come back since the last call, in order."""

    def stop(self) -> None:
        """Says what answers are left to say, then closes without waiting for anybody's leave."""


class ClientEnd(Protocol):
    """A client's end of a transport."""

    experiment: dict[str, Any]
    """What the server has put up."""

    def enter(self) -> None:
        """Says that this client is ready and waits for the others; Timeout where they do not come."""

    def request(self, frame: bytes) -> bytes:
        """The server's answer; Timeout or PeerLost where none comes."""

    def leave(self) -> None:
        """Goes; a request that still waits ends with PeerLost."""
