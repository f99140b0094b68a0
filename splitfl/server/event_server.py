"""What stations have in common that need all of their clients, and serve them in the order of virtual time.

Time goes on only while every client has sent something, or has left: whatever is sent then is sent later than
all that was decided (a conservative simulation: Fujimoto, CACM 33(10), 1990). Such a run cannot go on
without a client.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

from splitfl.core.errors import ConfigError
from splitfl.core.messages import Control
from splitfl.core.state import State
from splitfl.server.exchange import Exchange, Posted
from splitfl.server.server_loop import Answer

_POLL_S: Final = 1.0  # only to look for a failure; an answer is notified


class Waiting(Protocol):
    """A client's message until it is answered."""

    @property
    def answer(self) -> Answer: ...


Pending = TypeVar("Pending", bound=Waiting)


class EventServer(ABC, Generic[Pending]):
    """Takes frames, and lets its heir work for one message at a time as soon as nobody owes one.

    `kind` names such runs in errors. An heir keeps in `_pending` what waits for an answer, and in
    `_expected` the round and the lap of each client's next message.
    """

    def __init__(self, desk: Exchange, clients: int, kind: str) -> None:
        self._desk = desk
        self._clients = clients
        self._kind = kind
        self._condition = threading.Condition()
        self._pending: dict[int, Pending] = {}
        self._expected = dict.fromkeys(range(clients), (0, 0))
        self._failure: Exception | None = None

    @abstractmethod
    def _take(self, posted: Posted, answer: Answer) -> None:
        """A message that is no farewell; WireError where it is not the client's next."""

    @abstractmethod
    def _go_on(self) -> None:
        """Serves what can be served, until somebody has to work who is not here."""

    @property
    @abstractmethod
    def _round(self) -> int:
        """The first round that is not over."""

    @property
    def left(self) -> dict[int, Control]:
        """See Station."""
        return self._desk.left

    def handle(self, frame: bytes, answer: Answer) -> None:
        """See Station; waits until the answer is there, which takes the others' messages too."""
        answered = threading.Event()

        def answer_and_go(reply: bytes) -> None:
            answer(reply)
            answered.set()

        with self._condition:
            self._post(frame, answer_and_go)
            while not answered.is_set():
                if self._failure is not None:
                    raise self._failure
                self._condition.wait(_POLL_S)

    def post(self, frame: bytes, answer: Answer) -> None:
        """Takes a frame without waiting for its answer, and does all that can be done by now."""
        with self._condition:
            self._post(frame, answer)

    def fail(self, error: Exception) -> None:
        """See Station."""
        self._failure = self._failure or error  # whoever is at work below hears of it without the lock
        with self._condition:
            self._condition.notify_all()

    @property
    def away(self) -> frozenset[int]:
        """See Station: nobody, since such a run does not go on without a client."""
        return frozenset()

    def joins(self, client: int, kept: Callable[[int], int]) -> int:
        """See Station."""
        return self._expected[client][0]

    def lost(self, client: int, until: int | None = None) -> None:
        """See Station; always ConfigError, for settings that are refused before."""
        raise ConfigError(f"{self._kind} cannot go on without a client")

    def pass_over(self, client: int) -> None:
        """See Station; always ConfigError."""
        self.lost(client)

    def awaited(self) -> None:
        """See Station: settings that ask for this are refused before."""

    def answered(self) -> frozenset[int]:
        """See Station: settings that ask for this are refused before."""
        return frozenset()

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """See Station."""
        return self._round, frozenset(range(self._clients)) - self.left.keys()

    def state(self) -> State | None:
        """See Station: None where there is no moment at which nobody is in the middle of something."""
        return None

    def restore(self, state: State) -> None:
        """See Station; always ConfigError."""
        raise ConfigError(f"{self._kind} cannot be gone on with: there is always something under way")

    def _post(self, frame: bytes, answer: Answer) -> None:
        if self._failure is not None:
            raise self._failure
        posted = self._desk.open(frame)
        goodbye = self._desk.goodbye(posted)
        if goodbye is not None:
            assert isinstance(posted.message, Control)
            answer(goodbye)
            self.left[posted.envelope.client] = posted.message
        else:
            self._take(posted, answer)
        self._go_on()
        self._condition.notify_all()

    def _owing(self) -> bool:
        return len(self._pending) + len(self.left) < self._clients
