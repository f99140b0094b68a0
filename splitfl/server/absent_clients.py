"""Keeps the turns of clients that are gone, so that the others need not wait for them."""

import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from splitfl.core.errors import RejoinRequired

_POLL_S: Final = 0.5  # only to look for a failure; whatever is waited for is notified


class Seats(Protocol):
    """Where every client has a turn of its own."""

    def expected(self, client: int) -> tuple[int, int]:
        """Round and lap of this client's next message."""

    def pass_over(self, client: int) -> None:
        """Waits for this client's next turn and lets it go by."""


@dataclass(frozen=True, kw_only=True)
class _Away:
    """From `back_at` on a client has its seat again when it comes for it, from round `until` on without."""

    back_at: int
    until: int | None


class AbsentClients:
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
        self._away: dict[int, _Away] = {}
        self._returning: Counter[int] = Counter()  # how often it asks: a process that is gone may have, too
        self._working: Counter[int] = Counter()
        self._failure: Exception | None = None

    @property
    def away(self) -> frozenset[int]:
        """The clients that are gone now."""
        with self._condition:
            return frozenset(self._away)

    def work(self, client: int, turn: Callable[[], None]) -> None:
        """Takes a turn that the client itself has come for; nobody stands in for it meanwhile.

        Raises Again for a client that somebody stands in for already.
        """
        with self._condition:
            if client in self._away:
                raise RejoinRequired(f"the others have gone on without client {client}")
            self._working[client] += 1
        try:
            turn()
        finally:
            with self._condition:
                self._working[client] -= 1
                self._condition.notify_all()

    @property
    def working(self) -> frozenset[int]:
        """The clients whose message is here and is not answered yet."""
        with self._condition:
            return frozenset(+self._working)

    def is_holding_up(self, client: int) -> bool:
        """Whether others wait, and this client neither does nor has somebody standing in for it."""
        with self._condition:
            is_idle = not self._working[client] and client not in self._away
            return is_idle and bool(+self._working)

    def lost(self, client: int, *, back_at: int = 0, until: int | None = None) -> None:
        """This client is gone: its turns go by, until it comes back, not before round `back_at`.

        From round `until` on its seat is its own again whether it has come or not.
        """
        with self._condition:
            is_known = client in self._away
            if not is_known or until is None:
                self._away[client] = _Away(back_at=back_at, until=until)
        if not is_known:
            name = f"for-client-{client}"
            threading.Thread(target=self._stand_in, args=(client,), name=name, daemon=True).start()

    def joins(self, client: int) -> int:
        """The round with which a client that is there again goes on; waits until that is settled.

        What it had begun before it came again goes on without it.
        """
        with self._condition:
            self._returning[client] += 1
            self._condition.notify_all()
            try:
                return self._settled(client)
            finally:
                self._returning[client] -= 1

    def fail(self, error: Exception) -> None:
        """Nothing goes on: every wait ends with this error."""
        with self._condition:
            self._failure = self._failure or error
            self._condition.notify_all()

    def _settled(self, client: int) -> int:
        while True:
            self._wait(lambda: not self._working[client])
            round_index, lap = self._seats.expected(client)
            if lap and client not in self._away:
                self.lost(client, until=round_index + 1)
            self._wait(lambda: self._is_free(client))
            round_index, lap = self._seats.expected(client)
            if not lap and not self._working[client]:  # or another that asked has begun meanwhile
                return round_index

    def _stand_in(self, client: int) -> None:
        try:
            while not self._gives_way(client):
                self._seats.pass_over(client)
        except Exception as error:  # the run has failed, and whoever waits here must hear of it
            self.fail(error)
        with self._condition:
            self._condition.notify_all()

    def _is_free(self, client: int) -> bool:
        """Whether nobody stands in for this client, or nothing is left to do for it."""
        return client not in self._away or self._seats.expected(client)[0] >= self._rounds

    def _gives_way(self, client: int) -> bool:
        """Whether this client's next turn is not to go by; waits while too few are there to begin a round."""
        with self._condition:
            self._wait(lambda: not self._working[client])
            round_index, lap = self._seats.expected(client)
            if lap:
                return False
            self._wait(
                lambda: (
                    round_index >= self._rounds
                    or self._is_back(client, round_index)
                    or self._clients - len(self._away) >= self._least
                )
            )
            is_back = self._is_back(client, round_index)
            if is_back:
                del self._away[client]
            return is_back or round_index >= self._rounds

    def _is_back(self, client: int, round_index: int) -> bool:
        away = self._away[client]
        comes = self._returning[client] > 0 and round_index >= away.back_at
        return comes or (away.until is not None and round_index >= away.until)

    def _wait(self, is_due: Callable[[], bool]) -> None:
        while not is_due():
            if self._failure is not None:
                raise self._failure
            self._condition.wait(_POLL_S)
