"""Membership: the state of each client of a run, and the turns of absent clients.

A client is present, absent (lost, or on leave for some rounds) or has left for good. This is the only owner
of that state, for the server loops, the time limits and `splitfl.runtime.serve`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from splitfl.core.errors import ConfigError, RejoinRequired, WireError
from splitfl.core.messages import Leave

_POLL_S: Final = 0.5  # polls for failures only; changes notify
_NEVER: Final = -1


@dataclass(frozen=True, kw_only=True)
class _Absence:
    """The client may return from round `earliest` on; from round `until` on it is present in any case."""

    earliest: int
    until: int | None


@dataclass(kw_only=True, eq=False)
class _Client:
    """One client: its next message, and its last missed and late rounds."""

    round: int = 0
    lap: int = 0
    absence: _Absence | None = None
    joining: int = 0  # pending joins, including those of processes that died
    joined: int = 0  # joins in total
    in_service: int = 0  # its messages that have no reply yet
    missed_round: int = _NEVER  # the last round in which it missed turns
    late_round: int = _NEVER  # the last round that ended before the client had finished it
    restored_after: int | None = None  # the round after which state restored checkpoint was written


class Membership:
    """The state of every client, and one thread per absent client that passes its turns.

    A round starts with at least `min_clients` present. A client that returns resumes with the next round that
    has not been started without it.
    """

    def __init__(
        self,
        clients: int,
        rounds: int = 0,
        min_clients: int = 1,
        pass_turn: Callable[[int], None] | None = None,
        kind: str = "this run",
    ) -> None:
        """`pass_turn` waits for an absent client's next turn and passes it; None if a run of this `kind`
        cannot continue without a client.
        """
        self._clients = {client: _Client() for client in range(clients)}
        self._rounds = rounds
        self._min_clients = min_clients
        self._pass_turn = pass_turn
        self._kind = kind
        self._condition = threading.Condition()
        self._failure: Exception | None = None
        self.left: dict[int, Leave] = {}

    def __getitem__(self, client: int) -> _Client:
        return self._clients[client]

    def knows(self, client: int) -> bool:
        """Whether this client index exists."""
        return client in self._clients

    @property
    def absent(self) -> frozenset[int]:
        """The clients that are absent now."""
        with self._condition:
            return frozenset(client for client, state in self._clients.items() if state.absence)

    def expected(self, client: int) -> tuple[int, int] | None:
        """Round and lap of this client's next message; None for an unknown client."""
        state = self._clients.get(client)
        return (state.round, state.lap) if state is not None else None

    def expect(self, client: int, round_index: int, lap: int) -> None:
        """Sets round and lap of the client's next message."""
        state = self._clients[client]
        state.round, state.lap = round_index, lap

    def start_at(self, round_index: int) -> None:
        """Sets every client's next message to the first one of this round."""
        for client in self._clients:
            self.expect(client, round_index, 0)

    def advance(self, client: int, *, is_last: bool) -> None:
        """Advances to the client's next message, in the next round after this round's last one."""
        state = self._clients[client]
        state.round, state.lap = (state.round + 1, 0) if is_last else (state.round, state.lap + 1)

    @contextmanager
    def serving(self, client: int) -> Iterator[None]:
        """Serves the client's own message; meanwhile its turns are not passed.

        Raises RejoinRequired for an absent client.
        """
        state = self._clients.get(client) or _Client()
        with self._condition:
            if state.absence:
                raise RejoinRequired(f"the run continued without client {client}")
            state.in_service += 1
        try:
            yield
        finally:
            with self._condition:
                state.in_service -= 1
                self._condition.notify_all()

    def blocks_others(self, client: int) -> bool:
        """Whether others wait while this client is present without a pending message."""
        with self._condition:
            state = self._clients[client]
            is_idle = not state.in_service and state.absence is None
            return is_idle and any(one.in_service for one in self._clients.values())

    def ahead_of(self, client: int) -> frozenset[int]:
        """The present clients that have sent this client's next message, or a later one."""
        with self._condition:
            now = self.expected(client) or (0, 0)
            return frozenset(
                other
                for other, state in self._clients.items()
                if state.absence is None and (state.in_service or (state.round, state.lap) > now)
            )

    def unfinished(self, round_index: int) -> frozenset[int]:
        """The present clients that have not finished this round."""
        with self._condition:
            return frozenset(
                client
                for client, state in self._clients.items()
                if state.absence is None and state.round == round_index
            )

    def lost(self, client: int, *, earliest: int = 0, until: int | None = None) -> None:
        """Marks the client absent: its turns are passed until it rejoins, not before round `earliest`.

        From round `until` on it counts as present whether it has rejoined or not. Raises ConfigError if the
        run cannot continue without a client.
        """
        self._refuse_absence()
        with self._condition:
            state = self._clients[client]
            is_known = state.absence is not None
            if not is_known or until is None:
                state.absence = _Absence(earliest=earliest, until=until)
        if not is_known:
            name = f"absent-client-{client}"
            threading.Thread(target=self._pass_turns, args=(client,), name=name, daemon=True).start()

    def pass_turn(self, client: int) -> None:
        """Waits for an absent client's next turn and passes it; raises ConfigError as `lost` does."""
        self._refuse_absence()
        assert self._pass_turn is not None
        self._pass_turn(client)

    def joins(self, client: int, completed: Callable[[int], int]) -> int:
        """The round with which a joining client starts or resumes; waits until it is known.

        `completed` gives the last round completed in the checkpoint that it restores for a round. A round
        that it had started before continues without it.
        """
        if client not in self._clients:
            raise WireError(f"client must be 0 to {len(self._clients) - 1}, got {client}")
        state = self._clients[client]
        if self._pass_turn is None:
            return state.round
        state.joined += 1
        with self._condition:
            state.joining += 1
            self._condition.notify_all()
            try:
                round_index = self._round_to_join(client)
            finally:
                state.joining -= 1
        if (last := completed(round_index)) + 1 < round_index:
            state.restored_after = last
        return round_index

    def fail(self, error: Exception) -> None:
        """Ends every wait with this error."""
        with self._condition:
            self._failure = self._failure or error
            self._condition.notify_all()

    def _refuse_absence(self) -> None:
        if self._pass_turn is None:
            raise ConfigError(f"{self._kind} cannot continue without a client")

    def _round_to_join(self, client: int) -> int:
        state = self._clients[client]
        while True:
            self._wait(lambda: not state.in_service)
            if state.lap and state.absence is None:
                self.lost(client, until=state.round + 1)
            self._wait(lambda: state.absence is None or state.round >= self._rounds)
            if (
                not state.lap and not state.in_service
            ):  # else another process of this client has joined meanwhile
                return state.round

    def _pass_turns(self, client: int) -> None:
        try:
            while not self._ends(client):
                self.pass_turn(client)
        except Exception as error:  # the run has failed: ends all waits
            self.fail(error)
        with self._condition:
            self._condition.notify_all()

    def _ends(self, client: int) -> bool:
        """Whether this absence ends before the next turn; waits for `min_clients` at a round's start."""
        state = self._clients[client]
        with self._condition:
            self._wait(lambda: not state.in_service)
            if state.lap:
                return False
            self._wait(
                lambda: (
                    state.round >= self._rounds
                    or self._is_back(state)
                    or len(self._clients) - len(self.absent) >= self._min_clients
                )
            )
            is_back = self._is_back(state)
            if is_back:
                state.absence = None
            return is_back or state.round >= self._rounds

    @staticmethod
    def _is_back(state: _Client) -> bool:
        assert state.absence is not None
        returns = state.joining > 0 and state.round >= state.absence.earliest
        return returns or (state.absence.until is not None and state.round >= state.absence.until)

    def _wait(self, is_due: Callable[[], bool]) -> None:
        while not is_due():
            if self._failure is not None:
                raise self._failure
            self._condition.wait(_POLL_S)
