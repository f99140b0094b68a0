"""Membership: where each client of a run stands, and who takes the turns of those that are absent.

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

_POLL_S: Final = 0.5  # only to look for a failure; whatever is waited for is notified
_NEVER: Final = -1


@dataclass(frozen=True, kw_only=True)
class _Absence:
    """The client may return from round `earliest` on; from round `until` on it is present in any case."""

    earliest: int
    until: int | None


@dataclass(kw_only=True, eq=False)
class _Client:
    """One client: its next message, and what became of its last rounds."""

    round: int = 0
    lap: int = 0
    absence: _Absence | None = None
    joining: int = 0  # how often it asks at this moment: a process that died may have asked, too
    joined: int = 0  # how often it has asked
    in_service: int = 0  # how many of its messages are here and not answered
    missed_round: int = _NEVER  # the last round of which turns passed without it
    late_round: int = _NEVER  # the last round that ended before the client had finished it
    restored_after: int | None = None  # the round after which its restored checkpoint was written


class Membership:
    """The state of every client, and one thread for each absent one that passes its turns.

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
        """`pass_turn` waits for an absent client's next turn and lets it pass; None where a run of this
        `kind` cannot continue without one of its clients.
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
        """Whether there is such a client."""
        return client in self._clients

    @property
    def absent(self) -> frozenset[int]:
        """The clients that are absent now."""
        with self._condition:
            return frozenset(client for client, its in self._clients.items() if its.absence)

    def expected(self, client: int) -> tuple[int, int] | None:
        """Round and lap of this client's next message; None for a client that there is not."""
        its = self._clients.get(client)
        return (its.round, its.lap) if its is not None else None

    def expect(self, client: int, round_index: int, lap: int) -> None:
        """Its next message is this one."""
        its = self._clients[client]
        its.round, its.lap = round_index, lap

    def start_at(self, round_index: int) -> None:
        """Every client's next message is the first one of this round."""
        for client in self._clients:
            self.expect(client, round_index, 0)

    def advance(self, client: int, *, is_last: bool) -> None:
        """Its message was admitted; the next one is of the next round if that was its last of this one."""
        its = self._clients[client]
        its.round, its.lap = (its.round + 1, 0) if is_last else (its.round, its.lap + 1)

    @contextmanager
    def serving(self, client: int) -> Iterator[None]:
        """While a message that the client itself has sent is served, nobody passes its turns.

        Raises RejoinRequired for an absent client.
        """
        its = self._clients.get(client) or _Client()
        with self._condition:
            if its.absence:
                raise RejoinRequired(f"the run continued without client {client}")
            its.in_service += 1
        try:
            yield
        finally:
            with self._condition:
                its.in_service -= 1
                self._condition.notify_all()

    def is_holding_up(self, client: int) -> bool:
        """Whether others wait, and this client is present and has no message here."""
        with self._condition:
            its = self._clients[client]
            is_idle = not its.in_service and its.absence is None
            return is_idle and any(one.in_service for one in self._clients.values())

    def ahead_of(self, client: int) -> frozenset[int]:
        """The clients present that have sent what this one is to send next, or what comes later."""
        with self._condition:
            now = self.expected(client) or (0, 0)
            return frozenset(
                other
                for other, its in self._clients.items()
                if its.absence is None and (its.in_service or (its.round, its.lap) > now)
            )

    def unfinished(self, round_index: int) -> frozenset[int]:
        """The clients present that have not finished this round."""
        with self._condition:
            return frozenset(
                client
                for client, its in self._clients.items()
                if its.absence is None and its.round == round_index
            )

    def lost(self, client: int, *, earliest: int = 0, until: int | None = None) -> None:
        """This client is absent: its turns pass until it joins again, not before round `earliest`.

        From round `until` on it counts as present whether it has joined or not. ConfigError where the run
        cannot continue without a client.
        """
        self._refuse_absence()
        with self._condition:
            its = self._clients[client]
            is_known = its.absence is not None
            if not is_known or until is None:
                its.absence = _Absence(earliest=earliest, until=until)
        if not is_known:
            name = f"absent-client-{client}"
            threading.Thread(target=self._pass_turns, args=(client,), name=name, daemon=True).start()

    def pass_turn(self, client: int) -> None:
        """Waits for an absent client's next turn and lets it pass; ConfigError as `lost`."""
        self._refuse_absence()
        assert self._pass_turn is not None
        self._pass_turn(client)

    def joins(self, client: int, completed: Callable[[int], int]) -> int:
        """The round with which a client starts or resumes; waits until that is settled.

        `completed` is the last round that it had completed in the checkpoint that it restores for a round.
        What it had started before it asked continues without it.
        """
        if client not in self._clients:
            raise WireError(f"there is no client {client}: clients are 0 to {len(self._clients) - 1}")
        its = self._clients[client]
        if self._pass_turn is None:
            return its.round
        its.joined += 1
        with self._condition:
            its.joining += 1
            self._condition.notify_all()
            try:
                round_index = self._settled(client)
            finally:
                its.joining -= 1
        if (last := completed(round_index)) + 1 < round_index:
            its.restored_after = last
        return round_index

    def fail(self, error: Exception) -> None:
        """The run has failed: every wait ends with this error."""
        with self._condition:
            self._failure = self._failure or error
            self._condition.notify_all()

    def _refuse_absence(self) -> None:
        if self._pass_turn is None:
            raise ConfigError(f"{self._kind} cannot continue without a client")

    def _settled(self, client: int) -> int:
        its = self._clients[client]
        while True:
            self._wait(lambda: not its.in_service)
            if its.lap and its.absence is None:
                self.lost(client, until=its.round + 1)
            self._wait(lambda: its.absence is None or its.round >= self._rounds)
            if not its.lap and not its.in_service:  # else another one that asked has started meanwhile
                return its.round

    def _pass_turns(self, client: int) -> None:
        try:
            while not self._ends(client):
                self.pass_turn(client)
        except Exception as error:  # the run has failed: every thread that waits here must be told
            self.fail(error)
        with self._condition:
            self._condition.notify_all()

    def _ends(self, client: int) -> bool:
        """Whether this absence ends before the next turn; waits while too few are present for a round."""
        its = self._clients[client]
        with self._condition:
            self._wait(lambda: not its.in_service)
            if its.lap:
                return False
            self._wait(
                lambda: (
                    its.round >= self._rounds
                    or self._is_back(its)
                    or len(self._clients) - len(self.absent) >= self._min_clients
                )
            )
            is_back = self._is_back(its)
            if is_back:
                its.absence = None
            return is_back or its.round >= self._rounds

    @staticmethod
    def _is_back(its: _Client) -> bool:
        assert its.absence is not None
        returns = its.joining > 0 and its.round >= its.absence.earliest
        return returns or (its.absence.until is not None and its.round >= its.absence.until)

    def _wait(self, is_due: Callable[[], bool]) -> None:
        while not is_due():
            if self._failure is not None:
                raise self._failure
            self._condition.wait(_POLL_S)
