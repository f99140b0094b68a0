"""Base class of servers that need all clients and serve them in the order of virtual time.

Time advances only while every client has a message here or has left, so that later messages are sent after
all simulated time (a conservative simulation: Fujimoto, CACM 33(10), 1990). Such a run cannot
continue without a client.
"""

import threading
from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import Begin, Leave, Message, NotSelected
from splitfl.core.state import State
from splitfl.server.exchange import Exchange
from splitfl.server.membership import Membership
from splitfl.server.server_loop import Answer
from splitfl.wire import Envelope, Frame

_POLL_S: Final = 1.0  # polls for failures only; replies notify

Pending = TypeVar("Pending")


class EventServer(ABC, Generic[Pending]):
    """Takes frames; a subclass serves one message at a time once every client has one in `_pending`."""

    def __init__(self, exchange: Exchange, clients: int, kind: str) -> None:
        """`kind` names such runs in errors."""
        self._exchange = exchange
        self._clients = clients
        self._kind = kind
        self._condition = threading.Condition()
        self._pending: dict[int, Pending] = {}
        self._failure: Exception | None = None
        self.membership = Membership(clients, kind=kind)

    @abstractmethod
    def _take(self, frame: Frame, message: Message, answer: Answer) -> None:
        """Takes a message other than `Leave`; raises WireError if it is not the client's next."""

    @abstractmethod
    def _run(self) -> None:
        """Serves messages until a client has to compute."""

    @property
    @abstractmethod
    def _round(self) -> int:
        """The first round that is not over."""

    def handle(self, frame: Frame, answer: Answer) -> None:
        """See ServerLoop; waits for the reply, which needs the other clients' messages."""
        answered = threading.Event()

        def answer_and_set(reply: bytes) -> None:
            answer(reply)
            answered.set()

        with self._condition:
            self._post(frame, answer_and_set)
            while not answered.is_set():
                if self._failure is not None:
                    raise self._failure
                self._condition.wait(_POLL_S)

    def post(self, frame: Frame, answer: Answer) -> None:
        """See ServerLoop; serves all messages that can be served."""
        with self._condition:
            self._post(frame, answer)

    def fail(self, error: Exception) -> None:
        """See ServerLoop."""
        self._failure = self._failure or error  # `_run` sees it without the lock
        with self._condition:
            self._condition.notify_all()

    def awaited(self) -> None:
        """See ServerLoop; settings that need this are refused before a run."""

    def ready(self) -> frozenset[int]:
        """See ServerLoop; settings that need this are refused before a run."""
        return frozenset()

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """See ServerLoop."""
        return self._round, frozenset(range(self._clients)) - self.membership.left.keys()

    def state(self) -> State | None:
        """See ServerLoop: None where some client is always in the middle of a round."""
        return None

    def restore(self, state: State) -> None:
        """See ServerLoop; always ConfigError."""
        raise ConfigError(f"{self._kind} cannot be resumed: some client is always in the middle of a round")

    def _check_expected(self, envelope: Envelope, message: Message) -> None:
        """Raises WireError unless this is the client's next message."""
        expected = self.membership.expected(envelope.client)
        is_begin = isinstance(message, Begin | NotSelected)
        if (
            envelope.client in self._pending
            or (envelope.round, envelope.lap) != expected
            or is_begin != (envelope.lap == 0)
        ):
            raise WireError(
                f"client {envelope.client} sent message {envelope.lap} of round {envelope.round} "
                "out of order, or twice"
            )

    def _post(self, frame: Frame, answer: Answer) -> None:
        if self._failure is not None:
            raise self._failure
        message = self._exchange.read(frame)
        if isinstance(message, Leave):
            answer(self._exchange.acknowledge(frame.envelope))
            self.membership.left[frame.envelope.client] = message
        else:
            self._take(frame, message, answer)
        self._run()
        self._condition.notify_all()

    def _is_waiting(self) -> bool:
        return len(self._pending) + len(self.membership.left) < self._clients
