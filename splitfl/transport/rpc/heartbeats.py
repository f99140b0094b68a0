"""Liveness of clients by heartbeats, since PyTorch RPC does not report the end of a connection.

A client's index belongs to one process at a time; each process is a session. A second process that
claims the index waits: it is refused on a heartbeat of the first, and admitted after two missed
heartbeats.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from splitfl.transport.base.transport import PeerChange

log = logging.getLogger(__name__)

WAIT: Final = 0
REFUSED: Final = -1

_BEAT_S: Final = 5.0


def beat_s(timeout_s: float) -> float:
    """The heartbeat interval for a timeout of `timeout_s`."""
    return min(_BEAT_S, timeout_s / 4)


@dataclass
class _Session:
    """One process of a client; `last_received_s` is the time of its last heartbeat."""

    number: int
    last_received_s: float
    is_ready: bool = False
    has_left: bool = False
    is_known_silent: bool = False


class Heartbeats:
    """The sessions of all clients; thread-safe."""

    def __init__(self, clients: int, timeout_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clients = clients
        self._timeout_s = timeout_s
        self._clock_s = clock_s
        self._is_going = False
        self._sessions: dict[int, _Session] = {}
        self._changes: list[PeerChange] = []
        self._lock = threading.Lock()

    def admit(self, client: int, waited_s: float) -> int:
        """The session, from 1, of a process that has waited `waited_s` to join; or WAIT or REFUSED."""
        with self._lock:
            now_s, old = self._clock_s(), self._sessions.get(client)
            if old is not None and not old.has_left:
                if old.last_received_s > now_s - waited_s:
                    return REFUSED
                if self._is_alive(old):
                    return WAIT
                self._note_gone(client, old, "its heartbeats stopped, and another process took its place")
            number = 1 if old is None else old.number + 1
            self._sessions[client] = _Session(number, now_s)
            self._note(client, number, "it entered", is_here=True)
            return number

    def beat(self, client: int, session: int) -> str:
        """Records a heartbeat; the reason if its sender was replaced, else ""."""
        with self._lock:
            one = self._sessions.get(client)
            if one is None or one.number != session:
                return f"another process has come as client {client} since"
            one.last_received_s = self._clock_s()
            if one.is_known_silent:
                one.is_known_silent = False
                self._note(client, session, "its heartbeats resumed", is_here=True)
            return ""

    def ready(self, client: int, session: int) -> str:
        """Records a client as ready to start; see `beat`."""
        reason = self.beat(client, session)
        with self._lock:
            if not reason:
                self._sessions[client].is_ready = True
        return reason

    def leave(self, client: int, session: int) -> None:
        """Records that a client left; before the start it is forgotten."""
        with self._lock:
            one = self._sessions.get(client)
            if one is None or one.number != session:
                return
            one.has_left = True
            self._note_gone(client, one, "it left")
            if not self._is_going:
                del self._sessions[client]

    def begin(self) -> None:
        """Starts the run, and restarts every client's timeout."""
        with self._lock:
            self._is_going = True
            for one in self._sessions.values():
                one.last_received_s = self._clock_s()

    def missing(self) -> list[int]:
        """The clients that are not ready, or lost."""
        with self._lock:
            here = {
                client
                for client, one in self._sessions.items()
                if one.is_ready and not one.has_left and self._is_alive(one)
            }
        return [client for client in range(self._clients) if client not in here]

    def silent(self) -> list[int]:
        """The clients without a heartbeat for `timeout_s`."""
        with self._lock:
            return [client for client, one in self._sessions.items() if self._is_silent(one)]

    def changes(self) -> list[PeerChange]:
        """Joins and losses since the last call."""
        with self._lock:
            for client, one in self._sessions.items():
                if self._is_silent(one):
                    self._note_gone(client, one, f"no message for {self._timeout_s:g} s")
            changes, self._changes = self._changes, []
            return changes

    def _is_alive(self, one: _Session) -> bool:
        return self._clock_s() - one.last_received_s <= 2 * beat_s(self._timeout_s)

    def _is_silent(self, one: _Session) -> bool:
        return self._is_going and not one.has_left and self._clock_s() - one.last_received_s > self._timeout_s

    def _note_gone(self, client: int, one: _Session, reason: str) -> None:
        if not one.is_known_silent:
            one.is_known_silent = True
            self._note(client, one.number, reason, is_here=False)

    def _note(self, client: int, session: int, reason: str, *, is_here: bool) -> None:
        self._changes.append(PeerChange(client=client, is_here=is_here, session=session, reason=reason))
        log.info("client %d is %s: %s", client, "here" if is_here else "gone", reason)
