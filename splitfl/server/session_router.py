"""Routes frames from a transport to the server of a run, which may be restarted from a checkpoint.

A client's first message is a `Join`. Messages of a client that has not joined are of an earlier start of the
run, and are refused. A client that joins twice in one start without an invitation has lost its state in the
middle of a round. Every error of a frame is answered and recorded.
"""

import logging
import threading
from collections import Counter
from functools import partial
from typing import Final

from splitfl.client.client import JOIN_LAP, completed_before
from splitfl.core.errors import RejoinRequired, SplitflError, WireError
from splitfl.core.messages import Join, Joined
from splitfl.server.server_loop import Answer, ServerLoop
from splitfl.wire import Envelope, Frame, Refusal, encode

log = logging.getLogger(__name__)

_NOT_YET: Final = RejoinRequired("the run is about to continue from its last checkpoint")
_NO_CLIENT: Final = Envelope(client=-1, round=-1, lap=-1)


class SessionRouter:
    """Passes frames to the current server; its first failure ends the run for all clients."""

    def __init__(self, *, waits_for_restart: bool = False) -> None:
        """`waits_for_restart`: a client that rejoins uninvited waits until the run restarts or fails."""
        self._waits_for_restart = waits_for_restart
        self._condition = threading.Condition()
        self._server: ServerLoop | None = None
        self._join_count: Counter[int] = Counter()
        self._joined: set[int] = set()
        self._rejoining: set[int] = set()
        self._ended: Exception | None = None  # the reason if there will be no further server
        self.failure: Exception | None = None  # of the current server

    def rejoining(self) -> frozenset[int]:
        """The clients that wait for a restart of the run."""
        with self._condition:
            return frozenset(self._rejoining)

    def connect(self, server: ServerLoop) -> None:
        """Sets the current server, which every client must join."""
        with self._condition:
            self._server, self._joined, self._rejoining = server, set(), set()
            self.failure = None
            self._condition.notify_all()

    def disconnect(self, error: Exception) -> None:
        """Stops the run, permanently unless this is `RejoinRequired`; all waiting clients are refused."""
        with self._condition:
            server, self._server = self._server, None
            self._ended = None if isinstance(error, RejoinRequired) else error
            self._condition.notify_all()
        if server is not None:
            self._fail(server, error)

    def handle(self, client: int, data: bytes, answer: Answer) -> None:
        """Answers one frame of the client that the transport has authenticated, by one call of `answer`.

        A frame with another client's index is refused without effect on the run.
        """
        with self._condition:
            server, ended, has_joined = self._server, self._ended, client in self._joined
        try:
            frame = Frame(data)
        except WireError as error:
            if server is not None:
                self._fail(server, error)
            answer(refusal(self.failure or ended or error))
            return
        claimed = frame.envelope.client
        if claimed != client:
            reason = f"client {client} sent a message in the name of client {claimed}"
            log.warning("refused: %s", reason)
            answer(encode(Refusal(reason=reason), Envelope(client=client, round=-1, lap=-1)))
        elif frame.envelope.lap == JOIN_LAP:
            answer(self._joins(frame))
        elif server is None or not has_joined:
            answer(refusal(ended or _NOT_YET))
        else:
            self._serve(server, frame, answer)

    def _serve(self, server: ServerLoop, frame: Frame, answer: Answer) -> None:
        answered = False

        def answer_once(reply: bytes) -> None:
            nonlocal answered
            answered = True
            answer(reply)

        try:
            server.handle(frame, answer_once)
        except RejoinRequired as error:  # concerns this client only, unless `disconnect` raised it
            if not answered:
                answer(refusal(self.failure or error))
        except Exception as error:  # any error ends the run, so that clients do not wait forever
            self._fail(server, error)
            if not answered:
                answer(refusal(self.failure or error))

    def _fail(self, server: ServerLoop, error: Exception) -> None:
        self.failure = self.failure or error
        server.fail(self.failure)

    def _joins(self, frame: Frame) -> bytes:
        client = frame.envelope.client
        try:
            join = frame.message()
            if not isinstance(join, Join):
                raise WireError(f"client {client} joins with a {type(join).__name__}")
            server = self._server_for(client, is_invited=join.is_invited)
            round_index = server.membership.joins(client, partial(completed_before, join))
        except Exception as error:  # the run failed while this client waited to rejoin
            return refusal(error)
        with self._condition:
            if server is not self._server:
                return refusal(self._ended or _NOT_YET)
            self._joined.add(client)
        return encode(Joined(round=round_index), frame.envelope)

    def _server_for(self, client: int, *, is_invited: bool) -> ServerLoop:
        """Waits for the server that this client joins; raises RejoinRequired if it joins again meanwhile."""

        def is_settled() -> bool:
            if number != self._join_count[client]:
                return True
            is_lost = self._waits_for_restart and not is_invited and client in self._joined
            if self._server is not None and is_lost:
                self._rejoining.add(client)
                return False
            return self._server is not None or self._ended is not None

        with self._condition:
            self._join_count[client] += 1
            number = self._join_count[client]
            self._condition.notify_all()
            self._condition.wait_for(is_settled)
            if self._server is None or number != self._join_count[client]:
                raise self._ended or _NOT_YET
            return self._server


def refusal(error: Exception) -> bytes:
    """The frame of an error; not final if the client may rejoin."""
    return encode(
        Refusal(reason=reason_of(error), is_final=not isinstance(error, RejoinRequired)), _NO_CLIENT
    )


def reason_of(error: Exception) -> str:
    """The error's message; with the type's name for errors of other packages."""
    return str(error) if isinstance(error, SplitflError) else f"{type(error).__name__}: {error}"
