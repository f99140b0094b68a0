"""What a server does with the frames of all clients; see the synchronous, asynchronous and cell servers."""

from collections.abc import Callable
from typing import Protocol

from splitfl.core.state import State
from splitfl.server.membership import Membership
from splitfl.wire import Frame

Answer = Callable[[bytes], None]


class ServerLoop(Protocol):
    """Answers the frames of all clients, in an order that does not depend on the transport."""

    @property
    def membership(self) -> Membership:
        """Which clients are present, absent or have left."""

    def handle(self, frame: Frame, answer: Answer) -> None:
        """Answers one frame by calling `answer` once; returns when its work is part of the state.

        Raises WireError for what is no message of this client at this time, and the error that `fail` was
        given where its turn never comes.
        """

    def fail(self, error: Exception) -> None:
        """Ends every wait with this error."""

    def awaited(self) -> tuple[int, int] | None:
        """The client that holds others up, and the position of the message that they wait for."""

    def ready(self) -> frozenset[int]:
        """The clients present that have sent what the others wait for: of the same lap, or of a later one."""

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """The round that is not over, and the clients present that have not finished it."""

    def state(self) -> State | None:
        """Where the run stands between two rounds, but for the method's server and the ledger.

        See Stateful; None for a run that cannot be resumed.
        """

    def restore(self, state: State) -> None:
        """See Stateful; no message may have come yet."""
