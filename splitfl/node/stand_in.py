"""Keeps the turns of clients that are gone, so that the others need not wait for them."""

import threading
from collections.abc import Callable
from typing import Final, Protocol

_POLL_S: Final = 0.5  # only to look for a failure; whatever is waited for is notified


class Seats(Protocol):
    """Where every client has a turn of its own."""

    def expected(self, client: int) -> tuple[int, int]:
        """Round and lap of this client's next message."""

    def pass_over(self, client: int) -> None:
        """Waits for this client's next turn and lets it go by."""


class StandIns:
    """One thread for each client that is gone.

    A round is begun with at least `least` of the clients there. A client that comes back goes on
    with the next round that has not been begun in its stead.
    """

    def __init__(self, seats: Seats, clients: int, rounds: int, least: int) -> None:
        self._seats = seats
        self._clients = clients
        self._rounds = rounds
        self._least = least
        self._condition = threading.Condition()
        self._away: set[int] = set()
        self._returning: set[int] = set()
        self._working: set[int] = set()
        self._failure: Exception | None = None

    @property
    def away(self) -> frozenset[int]:
        """The clients that are gone now."""
        with self._condition:
            return frozenset(self._away)

    def work(self, client: int, turn: Callable[[], None]) -> None:
        """Takes a turn that the client itself has come for; nobody stands in for it meanwhile."""
        with self._condition:
            self._working.add(client)
        try:
            turn()
        finally:
            with self._condition:
                self._working.discard(client)
                self._condition.notify_all()

    def lost(self, client: int) -> None:
        """This client is gone: its turns go by, until it comes back."""
        with self._condition:
            if client in self._away:
                return
            self._away.add(client)
        threading.Thread(
            target=self._stand_in, args=(client,), name=f"for-client-{client}", daemon=True
        ).start()

    def joins(self, client: int) -> int:
        """The round with which a client that is there again goes on; waits until that is settled."""
        with self._condition:
            self._returning.add(client)
            self._condition.notify_all()
            self._wait(lambda: client not in self._working and self._is_free(client))
            self._returning.discard(client)
        return self._seats.expected(client)[0]

    def fail(self, error: Exception) -> None:
        """Nothing goes on: every wait ends with this error."""
        with self._condition:
            self._failure = self._failure or error
            self._condition.notify_all()

    def _stand_in(self, client: int) -> None:
        try:
            while self._is_wanted(client):
                self._seats.pass_over(client)
        except Exception as error:  # the run has failed, and whoever waits here must hear of it
            self.fail(error)
        with self._condition:
            if client in self._returning:
                self._away.discard(client)
            self._condition.notify_all()

    def _is_free(self, client: int) -> bool:
        """Whether nobody stands in for this client, or nothing is left to do for it."""
        return client not in self._away or self._seats.expected(client)[0] >= self._rounds

    def _is_wanted(self, client: int) -> bool:
        """Whether this client's next turn is to go by; waits while too few are there to begin a round."""
        with self._condition:
            self._wait(lambda: client not in self._working)
            round_index, lap = self._seats.expected(client)
            if lap or round_index >= self._rounds:
                return round_index < self._rounds
            self._wait(lambda: client in self._returning or self._clients - len(self._away) >= self._least)
            return client not in self._returning

    def _wait(self, is_due: Callable[[], bool]) -> None:
        while not is_due():
            if self._failure is not None:
                raise self._failure
            self._condition.wait(_POLL_S)
