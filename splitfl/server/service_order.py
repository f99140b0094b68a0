"""Lets the messages of many clients through in their one order, whoever comes first."""

import threading
from collections.abc import Callable

from splitfl.core.errors import WireError
from splitfl.federation.turns import Turns


class ServiceOrder:
    """Work on position i is admitted in order and once position i - in_flight is committed.

    Positions of a round are known when all its clients have begun. A wait has no deadline
    of its own, since others may have much to do: whoever watches over the clients calls
    `fail` when one falls silent, and every wait ends with that error.

    Whoever may be due is woken, and nobody else: with many clients most wait most of the time.
    """

    def __init__(self, seed: int, clients: int, in_flight: int) -> None:
        self._seed = seed
        self._clients = clients
        self._in_flight = in_flight
        self._lock = threading.RLock()
        self._called = [threading.Condition(self._lock) for _ in range(clients)]
        self._commits = threading.Condition(self._lock)
        self._turns = Turns(seed, 0, clients, 0)
        self._admitted = 0
        self._committed = 0
        self._failure: Exception | None = None

    def start_at(self, round_index: int, position: int) -> None:
        """Starts with this round, whose first message has this position in the whole run."""
        with self._lock:
            self._turns = Turns(self._seed, round_index, self._clients, position)
            self._admitted = self._committed = position

    def admit(self, client: int, round_index: int, lap: int, *, alone: bool) -> int:
        """Waits for this message's turn to be worked on; returns its position.

        `alone`: everything before it must be committed, not merely under way.
        Raises WireError for a message whose turn is over or can never come.
        """

        def position() -> int | None:
            turns = self._turns
            return turns.position(client, lap) if turns.round_index == round_index else None

        def is_due() -> bool:
            if self._is_out_of_turn(client, round_index, lap):
                raise WireError(f"client {client} has no message {lap} in round {round_index}, or had it")
            place = position()
            depth = 1 if alone else self._in_flight
            return place is not None and self._admitted == place and self._committed > place - depth

        with self._lock:
            if not is_due():  # and so the client is one of ours
                self._wait(self._called[client], is_due)
            place = position()
            assert place is not None
            return place

    def admitted(self, position: int) -> None:
        """The next position may be admitted."""
        with self._lock:
            self._call(self._admitted)  # if another waits with the same message, it comes too late
            self._admitted = position + 1
            self._call(self._admitted)

    def awaited(self) -> tuple[int, int | None]:
        """The position that is admitted next, and whose it is, if that is known."""
        with self._lock:
            return self._admitted, self._turns.whose(self._admitted)

    @property
    def round_index(self) -> int:
        """The round that is not over."""
        with self._lock:
            return self._turns.round_index

    def begin(self, client: int, laps: int) -> None:
        """This client's round will have so many laps."""
        with self._lock:
            self._turns.begin(client, laps)
            if self._turns.end is not None:
                self._call_all()

    def laps(self, client: int) -> int | None:
        """How many laps this client's round has; None until it has begun."""
        with self._lock:
            return self._turns.laps(client)

    def await_commit(self, position: int) -> None:
        """Waits until everything before this position is committed."""
        with self._lock:
            self._wait(self._commits, lambda: self._committed == position)

    def is_last(self, position: int) -> bool:
        """Whether this position ends its round."""
        with self._lock:
            return self._turns.end == position + 1

    def is_last_begin(self, position: int) -> bool:
        """Whether with this position every client has begun its round."""
        with self._lock:
            return position == self._turns.base + self._clients - 1

    def committed(self, position: int, *, ends_round: bool) -> None:
        """This position is part of the state now."""
        with self._lock:
            self._committed = position + 1
            if ends_round:
                self._turns = Turns(self._seed, self._turns.round_index + 1, self._clients, position + 1)
                self._call_all()
            self._call(self._admitted)
            self._commits.notify_all()

    def fail(self, error: Exception) -> None:
        """Nothing will come of the run: everybody who waits is told why."""
        with self._lock:
            self._failure = self._failure or error
            self._call_all()
            self._commits.notify_all()

    def _is_out_of_turn(self, client: int, round_index: int, lap: int) -> bool:
        turns = self._turns
        ahead = round_index - turns.round_index
        if not 0 <= client < self._clients or lap < 0 or ahead not in (0, 1):
            return True
        place = turns.position(client, lap) if ahead == 0 else None
        if place is not None:
            return place < self._admitted
        return ahead == 0 and turns.end is not None

    def _call(self, position: int) -> None:
        client = self._turns.whose(position)
        if client is not None:
            self._called[client].notify_all()

    def _call_all(self) -> None:
        for called in self._called:
            called.notify_all()

    def _wait(self, changed: threading.Condition, is_due: Callable[[], bool]) -> None:
        while not is_due():
            if self._failure is not None:
                raise self._failure
            changed.wait()
