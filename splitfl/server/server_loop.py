"""The interface of server loops; see the synchronous, asynchronous and cell servers."""

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

        Raises WireError for a message out of order, and the error passed to `fail` if its turn never comes.
        """

    def post(self, frame: Frame, answer: Answer) -> None:
        """Takes one frame without waiting; `answer` is called once all messages served with it are here.

        Raises as `handle` does.
        """

    def fail(self, error: Exception) -> None:
        """Ends every wait with this error."""

    def awaited(self) -> tuple[int, int] | None:
        """The client that blocks others, and the position of the message that they wait for."""

    def ready(self) -> frozenset[int]:
        """The present clients that have sent their message of the awaited lap, or a later one."""

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """The current round, and the present clients that have not finished it."""

    def state(self) -> State | None:
        """The state between two rounds, without the method's server and the ledger.

        See Stateful; None for a run that cannot be resumed.
        """

    def restore(self, state: State) -> None:
        """See Stateful; only valid before the first message."""
