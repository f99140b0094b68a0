"""The order in which the server processes messages, the same on every transport.

A round has laps: in lap 0 every client begins, in the last one it uploads. In each lap between them the
clients are served in a random order drawn for that lap, as in SplitFedV2 (Thapa et al., AAAI'22,
Algorithm 3).
"""

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from operator import itemgetter

from channel.core.rng import stream
from splitfl.core.errors import WireError


class Turns:
    """Positions of the messages of one round; built as the clients begin.

    A client's round has `steps + 2` laps with an upload, else `steps + 1`. After lap 0, each `batch`
    consecutive messages of a lap are served together; the last group of a lap may have fewer.
    """

    def __init__(self, seed: int, round_index: int, clients: int, base: int, batch: int = 1) -> None:
        self.round_index = round_index
        self.base = base
        self._seed = seed
        self._clients = clients
        self._batch = batch
        self._laps: dict[int, int] = {}
        self._num_turns = 0
        self._positions: dict[tuple[int, int], int] = {}
        self._order: list[tuple[int, int]] = []

    def begin(self, client: int, laps: int) -> None:
        """This client begins a round of `laps` laps, including lap 0."""
        self._num_turns += laps - self._laps.get(client, 0)
        self._laps[client] = laps
        if len(self._laps) == self._clients:
            self._order = self.order()
            self._positions = {turn: self.base + self._clients + i for i, turn in enumerate(self._order)}

    def laps(self, client: int) -> int | None:
        """The number of laps of this client's round; None until it has begun."""
        return self._laps.get(client)

    def position(self, client: int, lap: int) -> int | None:
        """The message's position in the whole run; None while it is not known."""
        return self.base + client if lap == 0 else self._positions.get((client, lap))

    def group(self, position: int) -> range:
        """The positions of the messages that are served together with that at this known position."""
        place = position - self.base - self._clients
        if place < 0 or self._batch == 1:
            return range(position, position + 1)
        lap = self._order[place][1]
        first = bisect_left(self._order, lap, key=itemgetter(1))
        end = bisect_right(self._order, lap, key=itemgetter(1))
        first += (place - first) // self._batch * self._batch
        start = self.base + self._clients + first
        return range(start, start + min(self._batch, end - first))

    def client_at(self, position: int) -> int | None:
        """The client whose message has this position; None while it is not known."""
        place = position - self.base
        if place < self._clients:
            return place
        place -= self._clients
        return self._order[place][0] if place < len(self._order) else None

    def order(self) -> list[tuple[int, int]]:
        """(client, lap) of every message after lap 0, once all clients have begun."""
        laps = range(1, max(self._laps.values()))
        return [(client, lap) for lap in laps for client in self._drawn(lap)]

    @property
    def end(self) -> int | None:
        """The first position after this round; None while it is not known."""
        if len(self._laps) < self._clients:
            return None
        return self.base + self._num_turns

    def _drawn(self, lap: int) -> list[int]:
        order = stream(self._seed, "turns", self.round_index, lap).permutation(self._clients)
        return [client for client in order.tolist() if lap < self._laps[client]]


class ServiceOrder:
    """Work on position i is admitted in order and once position i - in_flight is committed.

    With a `batch` above 1, i is the first position of a group: messages of one group are admitted while none
    of them is committed. Positions of a round are known when all its clients have begun. A wait has no
    timeout, since others may compute for long: the time limits call `fail`, which ends every wait with that
    error. Waiting clients are woken one by one.
    """

    def __init__(self, seed: int, clients: int, in_flight: int, batch: int = 1) -> None:
        self._seed = seed
        self._clients = clients
        self._in_flight = in_flight
        self._batch = batch
        self._lock = threading.RLock()
        self._turn_conditions = [threading.Condition(self._lock) for _ in range(clients)]
        self._commits = threading.Condition(self._lock)
        self._turns = Turns(seed, 0, clients, 0, batch)
        self._admitted = 0
        self._committed = 0
        self._failure: Exception | None = None

    def start_at(self, round_index: int, position: int) -> None:
        """Starts with this round, whose first message has this position in the whole run."""
        with self._lock:
            self._turns = Turns(self._seed, round_index, self._clients, position, self._batch)
            self._admitted = self._committed = position

    def admit(self, client: int, round_index: int, lap: int, *, alone: bool) -> int:
        """Waits for this message's turn to be worked on; returns its position.

        `alone`: everything before its group must be committed, not merely in progress.
        Raises WireError for a message whose turn is over or can never come.
        """

        def position() -> int | None:
            turns = self._turns
            return turns.position(client, lap) if turns.round_index == round_index else None

        def is_due() -> bool:
            if self._is_out_of_turn(client, round_index, lap):
                raise WireError(
                    f"client {client} sent message {lap} of round {round_index} out of order, or twice"
                )
            place = position()
            depth = 1 if alone else self._in_flight
            if place is None or self._admitted != place:
                return False
            return self._committed > self._turns.group(place).start - depth

        with self._lock:
            if not is_due():  # so the client index is valid
                self._wait(self._turn_conditions[client], is_due)
            place = position()
            assert place is not None
            return place

    def admitted(self, position: int) -> None:
        """The next position may be admitted."""
        with self._lock:
            self._notify(self._admitted)  # a duplicate of this message fails now
            self._admitted = position + 1
            self._notify(self._admitted)

    def awaited(self) -> tuple[int, int | None]:
        """The position that is admitted next, and the client at it, if that is known."""
        with self._lock:
            return self._admitted, self._turns.client_at(self._admitted)

    @property
    def round_index(self) -> int:
        """The current round."""
        with self._lock:
            return self._turns.round_index

    def begin(self, client: int, laps: int) -> None:
        """This client begins a round of `laps` laps."""
        with self._lock:
            self._turns.begin(client, laps)
            if self._turns.end is not None:
                self._notify_all()

    def laps(self, client: int) -> int | None:
        """The number of laps of this client's round; None until it has begun."""
        with self._lock:
            return self._turns.laps(client)

    def is_last_of_group(self, position: int) -> bool:
        """Whether the messages that are served together with this admitted one are all admitted."""
        with self._lock:
            return self._turns.group(position)[-1] == position

    def await_commit(self, position: int) -> None:
        """Waits until everything before this position is committed."""
        with self._lock:
            self._wait(self._commits, lambda: self._committed >= position)

    def is_last(self, position: int) -> bool:
        """Whether this position ends its round."""
        with self._lock:
            return self._turns.end == position + 1

    def is_last_begin(self, position: int) -> bool:
        """Whether with this position every client has begun its round."""
        with self._lock:
            return position == self._turns.base + self._clients - 1

    def committed(self, position: int, *, ends_round: bool) -> None:
        """Marks this position as part of the state."""
        with self._lock:
            self._committed = position + 1
            if ends_round:
                self.start_at(self._turns.round_index + 1, position + 1)
                self._notify_all()
            self._notify(self._admitted)
            self._commits.notify_all()

    def fail(self, error: Exception) -> None:
        """Ends every wait with this error."""
        with self._lock:
            self._failure = self._failure or error
            self._notify_all()
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

    def _notify(self, position: int) -> None:
        client = self._turns.client_at(position)
        if client is not None:
            self._turn_conditions[client].notify_all()

    def _notify_all(self) -> None:
        for condition in self._turn_conditions:
            condition.notify_all()

    def _wait(self, changed: threading.Condition, is_due: Callable[[], bool]) -> None:
        while not is_due():
            if self._failure is not None:
                raise self._failure
            changed.wait()
