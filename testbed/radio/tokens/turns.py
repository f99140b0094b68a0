"""Who may send: one message at a time is on the air, since all share a band, acknowledgements included."""

import threading
from typing import Final

from splitfl.core.errors import PeerLost, Timeout

SERVER: Final = -1
"""Stands for the server among the clients' numbers."""


class AirTurns:
    """Turns of the server and the clients; no wait for one lasts longer than `timeout_s`."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._sender: int | None = None
        self._is_closed = False

    def begin(self, who: int) -> None:
        """Waits until nobody else sends. A client whose turn it is already, after a restart, may begin again.

        Raises Timeout, and PeerLost once closed.
        """

        def is_free() -> bool:
            is_own = who != SERVER and self._sender == who
            return self._sender is None or is_own or self._is_closed

        with self._changed:
            if not self._changed.wait_for(is_free, self._timeout_s):
                sender = "the server" if self._sender == SERVER else f"client {self._sender}"
                raise Timeout(f"{sender} did not end its message within {self._timeout_s:g} s")
            if self._is_closed:
                raise PeerLost("the server's radio was closed")
            self._sender = who

    def end(self, who: int) -> None:
        """Lets others send, if this one did."""
        with self._changed:
            if self._sender == who:
                self._sender = None
                self._changed.notify_all()

    def close(self) -> None:
        """Ends all waits."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
