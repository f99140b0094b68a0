"""Admission of clients: authentication, and the session of each client's current process.

It does no I/O. A client's index belongs to one process at a time: another process with the same
credentials replaces it once the first has lost its connection, or was silent for half of
`timeout_s`.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, Final

from splitfl.core.errors import ConfigError, RunEnded, SplitflError, WireError
from splitfl.transport.base.transport import Handler, PeerChange
from splitfl.transport.base.versions import check_same, versions
from splitfl.transport.security.credentials import Tokens
from splitfl.transport.session.chunk import Chunk, Kind, say
from splitfl.transport.session.outbox import Outbox
from splitfl.transport.session.session import Session

log = logging.getLogger(__name__)

_OVER: Final = "the run is over"
_MAX_HELLO_BYTES: Final = 1 << 16
_AROUND_BYTES: Final = 512  # of a WELCOME, beside the experiment in it


class SessionRegistry:
    """The sessions of all clients; requests are handled in threads."""

    def __init__(
        self,
        clients: int,
        timeout_s: float,
        join_timeout_s: float,
        chunk_bytes: int,
        window_bytes: int | None = None,
        tokens: Tokens | None = None,
        clock_s: Callable[[], float] = time.monotonic,
        max_bytes: int | None = None,
    ) -> None:
        """`max_bytes` limits a chunk if the transport permits less than MAX_CHUNK_BYTES."""
        self.clients = clients
        self.timeout_s = timeout_s
        self._join_timeout_s = join_timeout_s
        self._new_outbox = partial(Outbox, chunk_bytes, window_bytes)
        self._tell_every_bytes = None if window_bytes is None else window_bytes // 2
        self._tokens = tokens
        self._clock_s = clock_s
        self._max_bytes = max_bytes
        self._experiment: Mapping[str, Any] = {}
        self._is_offered = threading.Event()
        self._handler: Handler | None = None
        self._sessions: dict[int, Session] = {}
        self._changes: list[PeerChange] = []
        self._fallen_silent: set[str] = set()
        self._is_over = False
        self._lock = threading.Lock()
        # Two per client, since a request of a lost process may still be in progress.
        self._executor = ThreadPoolExecutor(2 * clients, thread_name_prefix="server_loop")

    def offer(self, experiment: Mapping[str, Any]) -> None:
        """Publishes the experiment. Raises ConfigError if it exceeds the transport's chunk size."""
        size = len(json.dumps(experiment, separators=(",", ":"))) + _AROUND_BYTES
        if self._max_bytes is not None and size > self._max_bytes:
            raise ConfigError(
                f"the experiment needs a message of {size} bytes; the broker accepts at most "
                f"{self._max_bytes}"
            )
        self._experiment = experiment
        self._is_offered.set()

    def missing(self) -> list[int]:
        with self._lock:
            here = {client for client, one in self._sessions.items() if one.is_ready and self._is_alive(one)}
        return [client for client in range(self.clients) if client not in here]

    def start(self, handler: Handler) -> None:
        with self._lock:
            self._handler = handler
            for session in self._sessions.values():
                session.last_received_s = self._clock_s()
                if session.is_attached:
                    session.outbox.say(say(Kind.GO))

    def silent(self) -> list[int]:
        with self._lock:
            return [client for client, session in self._sessions.items() if self._is_silent(session)]

    def changes(self) -> list[PeerChange]:
        with self._lock:
            for session in self._sessions.values():
                if self._is_silent(session) and session.name not in self._fallen_silent:
                    self._fallen_silent.add(session.name)
                    self._note(session, f"no message for {self.timeout_s:g} s", is_here=False)
            changes, self._changes = self._changes, []
            return changes

    def admit(self, hello: Chunk, certified: str | None, whence: str) -> tuple[Session, int]:
        """The session that this hello starts or resumes, and the number of its new connection.

        `certified` is the name in the client's certificate, if one is required. Raises, with the reason for
        the client: RunEnded if permanent, ConfigError, and WireError for an invalid hello.
        """
        client, table = self._checked(hello, certified)
        if not self._is_offered.wait(self.timeout_s):  # it listens before the experiment is published
            raise ConfigError(f"the server has not published the experiment within {self.timeout_s:g} s")
        with self._lock:
            if self._is_over:
                raise RunEnded(_OVER)
            session = self._session(client, table, whence)
            number, offset = table["at"]
            line = session.attach(self._welcome(session, is_new=table["is_new"]), number, offset)
            session.is_ready = session.is_ready or table["is_ready"]
            self._fallen_silent.discard(session.name)
            self._note(session, f"it came from {whence}", is_here=True)
            return session, line

    def lost(self, session: Session, line: int, reason: str) -> None:
        """Records the end of a connection."""
        with self._lock:
            if session.detach(line) and self._sessions.get(session.client) is session:
                self._note(session, "it left" if session.has_left else reason, is_here=False)
                if session.has_left and self._handler is None:
                    del self._sessions[session.client]

    def close(self) -> None:
        """Sends pending replies and the end of the run to all clients, and handles no more requests."""
        last = refusal(RunEnded(_OVER))
        with self._lock:
            self._is_over = True
            for session in self._sessions.values():
                session.outbox.close(last)
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _checked(self, hello: Chunk, certified: str | None) -> tuple[int, dict[str, Any]]:
        if hello.kind is not Kind.HELLO or len(hello.data) > _MAX_HELLO_BYTES:
            raise WireError(
                f"a client begins with a HELLO, not with {len(hello.data)} bytes of {hello.kind.name}"
            )
        table = hello.table()
        spoken = {name: str(table.get(name)) for name in versions()}
        check_same(versions(), spoken)
        _check_fields(table)
        client = int(table["client"])
        if not 0 <= client < self.clients:
            raise ConfigError(f"the client must lie in 0..{self.clients - 1}, got {client}")
        if certified is not None and certified != f"client-{client}":
            raise ConfigError(f"the certificate is {certified}'s but the client claims to be client {client}")
        if self._tokens is not None:
            self._tokens.check(client, table["token"])
        return client, table

    def _session(self, client: int, table: Mapping[str, Any], whence: str) -> Session:
        old = self._sessions.get(client)
        if old is not None and old.name == table["session"]:
            return old
        if not table["is_new"]:
            if old is not None:
                raise RunEnded(f"another process has come as client {client} since")
            raise ConfigError(f"client {client} cannot continue its session: this server does not have it")
        if old is not None and not old.has_left and self._is_alive(old):
            raise ConfigError(f"another client {client} has joined already")
        count = 1 if old is None else old.count + 1
        session = Session(
            client,
            table["session"],
            count,
            self._new_outbox(),
            self._ask,
            self._clock_s,
            self._tell_every_bytes,
        )
        self._sessions[client] = session
        if old is not None:
            old.retire()
        return session

    def _welcome(self, session: Session, *, is_new: bool) -> bytes:
        number, offset = session.position
        table = {
            **versions(),
            "clients": self.clients,
            "timeout_s": self.timeout_s,
            "join_timeout_s": self._join_timeout_s,
            "is_going": self._handler is not None,
            "at": [number, offset],
        }
        return say(Kind.WELCOME, table | ({"experiment": self._experiment} if is_new else {}))

    def _ask(self, session: Session, number: int, frame: bytes) -> None:
        if self._handler is None:
            raise WireError(f"client {session.client} sent a request before the run started")
        with suppress(RuntimeError):  # the run has ended meanwhile
            self._executor.submit(self._work, self._handler, session, number, frame)

    def _work(self, handler: Handler, session: Session, number: int, frame: bytes) -> None:
        with self._lock:
            if self._sessions.get(session.client) is not session:
                return  # it was replaced by another process meanwhile
        try:
            handler(session.client, frame, partial(session.answer, number))
        except Exception:
            log.exception("client %d's message %d has no answer", session.client, number)

    def _is_alive(self, session: Session) -> bool:
        return session.is_attached and self._clock_s() - session.last_received_s <= self.timeout_s / 2

    def _is_silent(self, session: Session) -> bool:
        is_due = self._handler is not None and not session.has_left
        return is_due and self._clock_s() - session.last_received_s > self.timeout_s

    def _note(self, session: Session, reason: str, *, is_here: bool) -> None:
        change = PeerChange(client=session.client, is_here=is_here, session=session.count, reason=reason)
        self._changes.append(change)
        log.info("client %d is %s: %s", change.client, "here" if is_here else "gone", reason)


def refusal(error: SplitflError) -> bytes:
    """The encoded rejection of a client, with the reason, and whether the run is over for it."""
    return say(Kind.REFUSED, {"reason": str(error), "is_over": isinstance(error, RunEnded)})


def _check_fields(table: Mapping[str, Any]) -> None:
    kinds = {"client": int, "session": str, "is_new": bool, "is_ready": bool, "at": list, "token": str | None}
    for name, kind in kinds.items():
        if not isinstance(table.get(name), kind):
            raise WireError(f"a hello must have {name} of another kind, got {table.get(name)!r:.40}")
    at = table["at"]
    if len(at) != 2 or not all(type(number) is int and 0 <= number < 1 << 63 for number in at):
        raise WireError(f"a hello must say where it stands, got {at!r:.60}")
    if not 16 <= len(table["session"]) <= 64 or not table["session"].isalnum():
        raise WireError("a hello must name its session by 16 to 64 letters and digits")
