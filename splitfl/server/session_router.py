"""Between a transport that stays and the station of a run that may begin again.

A client's first word is the question with which round it goes on. What it sends without having
asked is of another life of the run, and goes nowhere. Whoever asks twice in one life of the run without
having been told to has lost what it was in the middle of.
"""

import threading
from collections import Counter
from functools import partial

from splitfl.client.client import JOIN_LAP, kept_before
from splitfl.core.errors import RejoinRequired, WireError
from splitfl.core.messages import Control
from splitfl.server.error_boundary import ErrorBoundary, refusal
from splitfl.server.server_loop import Answer, ServerLoop
from splitfl.wire import decode, encode
from splitfl.wire.frame import envelope_of

_NOT_YET = RejoinRequired("the run is about to go on from its last checkpoint")

_Line = tuple[ErrorBoundary, ServerLoop]


class SessionRouter:
    """Hands frames to the guard that there is."""

    def __init__(self, *, holds_up_again: bool = False) -> None:
        """Whether a client that asks again waits until the run begins again, for all, or has failed."""
        self._holds_up_again = holds_up_again
        self._condition = threading.Condition()
        self._line: _Line | None = None
        self._asked: Counter[int] = Counter()
        self._joined: set[int] = set()
        self._came_again: set[int] = set()
        self._failure: Exception | None = None

    def came_again(self) -> frozenset[int]:
        """The clients that wait until the run begins again."""
        with self._condition:
            return frozenset(self._came_again)

    def connect(self, guard: ErrorBoundary, station: ServerLoop) -> None:
        """From now on this is the run; whoever takes part must ask it where."""
        with self._condition:
            self._line, self._joined, self._came_again = (guard, station), set(), set()
            self._condition.notify_all()

    def disconnect(self, error: Exception) -> None:
        """The run stops, for good unless this is `RejoinRequired`; everybody who waits is told."""
        with self._condition:
            line, self._line = self._line, None
            self._failure = None if isinstance(error, RejoinRequired) else error
            self._condition.notify_all()
        if line is not None:
            line[0].fail(error)

    def handle(self, frame: bytes, answer: Answer) -> None:
        """Answers one frame by one call of `answer`."""
        try:
            envelope = envelope_of(frame)
        except WireError:
            envelope = None
        if envelope is not None and envelope.lap == JOIN_LAP:
            answer(self._joins(envelope.client, frame))
            return
        with self._condition:
            line = self._line
            is_in = line is not None and (envelope is None or envelope.client in self._joined)
            failure = self._failure
        if line is None or not is_in:
            answer(refusal(failure or _NOT_YET))
        else:
            line[0].handle(frame, answer)

    def _joins(self, client: int, frame: bytes) -> bytes:
        try:
            asked, _ = decode(frame)
            if not isinstance(asked, Control):
                raise WireError(f"client {client} asks where to go on with a {type(asked).__name__}")
            line = self._line_for(client, is_told=bool(asked.values.get("told")))
            round_index = line[1].joins(client, partial(kept_before, asked))
        except Exception as error:  # the run has failed while this client waited to come back
            return refusal(error)
        with self._condition:
            if line is not self._line:
                return refusal(self._failure or _NOT_YET)
            self._joined.add(client)
        return encode(Control(ask="join", round=round_index), envelope_of(frame))

    def _line_for(self, client: int, *, is_told: bool) -> _Line:
        """The life of the run for this client, waited for; Again if it asks anew meanwhile."""

        def is_settled() -> bool:
            if number != self._asked[client]:
                return True
            is_lost = self._holds_up_again and not is_told and client in self._joined
            if self._line is not None and is_lost:
                self._came_again.add(client)
                return False
            return self._line is not None or self._failure is not None

        with self._condition:
            self._asked[client] += 1
            number = self._asked[client]
            self._condition.notify_all()
            self._condition.wait_for(is_settled)
            if self._line is None or number != self._asked[client]:
                raise self._failure or _NOT_YET
            return self._line
