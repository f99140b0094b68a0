"""How long a step, a round and a run may take, on a clock that is handed in, and for whom others wait."""

from collections.abc import Callable
from typing import Protocol

from splitfl.config import FaultToleranceConfig
from splitfl.core.errors import Timeout


class Watched(Protocol):
    """Which client is late; see ServerLoop."""

    def awaited(self) -> tuple[int, int] | None:
        """The client that holds others up, and the position of the message that they wait for."""

    def ready(self) -> frozenset[int]:
        """The clients present that have sent what the others wait for."""

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """The round that is not over, and the clients present that have not finished it."""


class Limits:
    """Says who is over a limit of these settings; to be asked now and then."""

    def __init__(
        self,
        fault_tolerance: FaultToleranceConfig,
        server_loop: Watched,
        now_s: float,
        takes_part: Callable[[int, int], bool] = lambda client, round_index: True,
    ) -> None:
        """`takes_part` says whether a client was selected for a round."""
        self._fault_tolerance = fault_tolerance
        self._server_loop = server_loop
        self._takes_part = takes_part
        self._held: tuple[int, int] | None = None
        self._awaited: tuple[int, int] | None = None
        self._awaited_since_s = now_s
        self._round = -1
        self._round_since_s = now_s

    def slow(self, now_s: float) -> dict[int, str]:
        """The client that holds others up for too long, and a sentence about it."""
        limit_s = self._fault_tolerance.step_s
        if not limit_s:
            return {}
        awaited = self._server_loop.awaited()
        if awaited != self._awaited:
            self._awaited, self._awaited_since_s = awaited, now_s
        if awaited is None or now_s - self._awaited_since_s <= limit_s:
            return {}
        client, _ = awaited
        reason = f"client {client} exceeded fault_tolerance.step_s, {limit_s:g} s, and is treated as lost"
        return {client: reason}

    def straggler(self) -> tuple[int, int] | None:
        """The round that is not over, and a client for whom it need not wait: enough others are there.

        Only one that holds them up from one time that this is asked to the next.
        """
        if not self._fault_tolerance.quorum:
            return None
        before, self._held = self._held, self._server_loop.awaited()
        if self._held is None or self._held != before:
            return None
        round_index, _ = self._server_loop.unfinished()
        answered = sum(self._takes_part(client, round_index) for client in self._server_loop.ready())
        return (round_index, self._held[0]) if answered >= self._fault_tolerance.quorum else None

    def late(self, now_s: float) -> tuple[int, frozenset[int]]:
        """The round that is not over, and who has not finished it where it takes too long."""
        limit_s = self._fault_tolerance.round_s
        if not limit_s:
            return -1, frozenset()
        round_index, clients = self._server_loop.unfinished()
        if round_index != self._round:
            self._round, self._round_since_s = round_index, now_s
        return round_index, clients if now_s - self._round_since_s > limit_s else frozenset()


def check_run(fault_tolerance: FaultToleranceConfig, took_s: float) -> None:
    """Raises Timeout for a run that has taken too long."""
    if fault_tolerance.run_s and took_s > fault_tolerance.run_s:
        raise Timeout(
            f"the run took longer than fault_tolerance.run_s, {fault_tolerance.run_s:g} s; "
            "`splitfl resume` goes on from its last checkpoint"
        )
