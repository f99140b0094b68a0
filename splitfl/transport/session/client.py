"""A client's end over a transport whose connections may break: it reconnects and resumes.

Messages in flight when a connection breaks are neither lost nor handled twice: at every
connection both ends exchange their receive positions and resume from there.
"""

import logging
import threading
import time
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from splitfl.core.errors import ConfigError, PeerLost, RunEnded, SplitflError, Timeout, WireError
from splitfl.transport.base.versions import check_same, versions
from splitfl.transport.session.chunk import Chunk, Kind, say, unpack
from splitfl.transport.session.inbox import Gap, Inbox
from splitfl.transport.session.outbox import Outbox

log = logging.getLogger(__name__)

_BEAT_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_ACKNOWLEDGED_BYTES: Final = 1 << 16  # a smaller reply is acknowledged by the next request


class Connector(Protocol):
    """Establishes consecutive connections to one server."""

    chunk_bytes: int
    window_bytes: int | None
    silence: str
    """The likely reason if the server does not answer on an established connection."""

    def carry(self, take: Callable[[], bytes | None], receive: Callable[[bytes], None]) -> None:
        """Connects, sends the chunks of `take`, passes received ones to `receive`, until either end closes.

        Raises PeerLost if the connection fails, ConfigError if a retry is useless, and errors of `receive`.
        """

    def cut(self) -> None:
        """Closes the current connection, from another thread."""


class SessionClient:
    """Requests and replies over consecutive connections.

    A reply may take long, since the server may wait for slower clients. The server counts as lost if
    nothing was received for `timeout_s`.
    """

    def __init__(
        self, connector: Connector, where: str, client: int, token: str | None, timeout_s: float
    ) -> None:
        """Connects within `timeout_s` and reads the experiment; then the server's timeout applies.

        Raises Timeout without an answer, ConfigError if the server refuses.
        """
        self._connector, self._where, self._client, self._token = connector, where, client, token
        self.timeout_s = timeout_s
        self.experiment: dict[str, Any] = {}
        self._join_timeout_s = timeout_s
        self._name = uuid.uuid4().hex
        self._outbox = Outbox(connector.chunk_bytes, connector.window_bytes)
        self._inbox = Inbox()
        self._told_bytes = 0
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._failure: SplitflError | None = None
        self._answer: bytes | None = None
        self._number = 0
        self._is_known = self._is_up = self._is_ready = self._is_going = False
        self._heard_s = time.monotonic()
        self._reason = connector.silence
        self._work(self._keep_connected)
        try:
            self._wait(
                lambda: self._is_known,
                timeout_s,
                lambda: f"no server at {where} within {timeout_s:g} s: {self._reason}",
            )
        except SplitflError:
            self.leave()
            raise
        self._work(self._beat)

    def enter(self) -> None:
        self._is_ready = True
        self._outbox.say(say(Kind.READY))
        patience_s = self._join_timeout_s
        self._wait(
            lambda: self._is_going,
            patience_s,
            lambda: f"the other clients did not come within {patience_s:g} s",
        )

    def request(self, frame: bytes) -> bytes:
        with self._changed:
            self._number += 1
            self._answer = None
        self._outbox.put(Kind.REQUEST, self._number, frame)
        self._wait(lambda: self._answer is not None, None, str)
        answer, self._answer = self._answer, None
        assert answer is not None
        if len(answer) > _ACKNOWLEDGED_BYTES and self._is_up:
            self._tell(Kind.POSITION)
        return answer

    def leave(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        self._outbox.close(say(Kind.LEAVE))
        with self._changed:
            self._failure = self._failure or PeerLost(f"client {self._client} has left")
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._is_up, _FIRST_PAUSE_S * 10)
        self._connector.cut()

    def _work(self, work: Callable[[], None]) -> None:
        name = f"{work.__name__.strip('_')}-{self._client}"
        threading.Thread(target=work, name=name, daemon=True).start()

    def _wait(self, is_so: Callable[[], bool], timeout_s: float | None, complaint: Callable[[], str]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: is_so() or self._failure is not None, timeout_s)
            if is_so():
                return
            if self._failure is not None:
                raise self._failure
        raise Timeout(complaint())

    def _keep_connected(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._over.is_set():
            line = self._outbox.open(self._hello())
            try:
                self._connector.carry(partial(self._outbox.take, line), self._receive)
                reason = "it closed the connection"
            except PeerLost as error:
                reason = str(error)
            except SplitflError as error:
                self._fail(error)
            except Exception as error:  # of any type, or a request would wait for ever
                log.debug("client %d's connection failed", self._client, exc_info=True)
                self._fail(
                    PeerLost(f"the connection to {self._where} failed: {type(error).__name__}: {error}")
                )
            was_up = self._down()
            if self._failure is not None:
                return
            pause_s = _FIRST_PAUSE_S if was_up else min(2 * pause_s, _LONGEST_PAUSE_S)
            self._reason = reason
            if self._is_known and not self._over.is_set():
                words = "the server at %s is away (%s); client %d tries again in %.1f s"
                log.warning(words, self._where, reason, self._client, pause_s)
            self._over.wait(pause_s)

    def _beat(self) -> None:
        while not self._over.wait(min(_BEAT_S, self.timeout_s / 4)):
            silent_s = time.monotonic() - self._heard_s
            if self._is_known and silent_s > self.timeout_s:
                self._fail(Timeout(f"the server at {self._where} was silent for {self.timeout_s:g} s"))
                self._connector.cut()
                return
            if self._is_up and silent_s > self.timeout_s / 2:
                self._connector.cut()
            elif self._is_up:
                self._tell(Kind.BEAT)

    def _receive(self, raw: bytes) -> None:
        chunk = unpack(raw)
        self._heard_s = time.monotonic()
        match chunk.kind:
            case Kind.WELCOME:
                self._come_in(chunk)
            case Kind.REFUSED:
                self._fail(self._refusal(chunk))
                self._connector.cut()
            case Kind.GO:
                with self._changed:
                    self._is_going = True
                    self._changed.notify_all()
            case Kind.ANSWER:
                self._take(chunk)
            case Kind.BEAT | Kind.POSITION:
                self._outbox.confirm(chunk.number, chunk.offset, is_beat=chunk.kind is Kind.BEAT)
            case Kind.WANT:
                self._outbox.go_on(chunk.number, chunk.offset)
            case _:
                raise WireError(f"a client has no use for a {chunk.kind.name}")

    def _come_in(self, chunk: Chunk) -> None:
        welcome = chunk.table()
        check_same({name: str(welcome.get(name)) for name in versions()}, versions())
        try:
            number, offset = (int(value) for value in welcome["at"])
            if not self._is_known:
                self.experiment = dict(welcome["experiment"])
                self.timeout_s = float(welcome["timeout_s"])
                self._join_timeout_s = float(welcome["join_timeout_s"])
            is_going = bool(welcome["is_going"])
        except (KeyError, TypeError, ValueError):
            raise WireError("the WELCOME contains no valid experiment") from None
        self._outbox.go_on(number, offset)
        if self._is_ready:  # it may have become ready after the hello was encoded
            self._outbox.say(say(Kind.READY))
        with self._changed:
            if self._is_known:
                log.warning("client %d is connected to the server at %s again", self._client, self._where)
            self._is_known = self._is_up = True
            self._is_going = self._is_going or is_going
            self._changed.notify_all()

    def _take(self, chunk: Chunk) -> None:
        before = self._inbox.number
        taken = self._inbox.take(chunk)
        if self._inbox.number != before:
            self._told_bytes = 0
        if isinstance(taken, Gap):
            self._tell(Kind.WANT)
        elif taken is not None:
            with self._changed:
                self._answer = taken
                self._changed.notify_all()
        window_bytes = self._connector.window_bytes
        if window_bytes is not None and self._inbox.received_bytes - self._told_bytes >= window_bytes // 2:
            self._told_bytes = self._inbox.received_bytes
            self._tell(Kind.POSITION)

    def _tell(self, kind: Kind) -> None:
        self._outbox.say(say(kind, number=self._inbox.number, offset=self._inbox.received_bytes))

    def _hello(self) -> bytes:
        table = {
            **versions(),
            "client": self._client,
            "session": self._name,
            "is_new": not self._is_known,
            "is_ready": self._is_ready,
            "at": [self._inbox.number, self._inbox.received_bytes],
            "token": self._token,
        }
        return say(Kind.HELLO, table)

    def _refusal(self, chunk: Chunk) -> SplitflError:
        table = chunk.table()
        reason = str(table.get("reason"))
        if table.get("is_over"):
            return RunEnded(f"the server at {self._where} ended it: {reason}")
        if self._is_known:
            return PeerLost(f"the server at {self._where} refused this client: {reason}")
        return ConfigError(f"the server at {self._where} refused: {reason}")

    def _down(self) -> bool:
        with self._changed:
            was_up, self._is_up = self._is_up, False
            self._changed.notify_all()
            return was_up

    def _fail(self, error: SplitflError) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
