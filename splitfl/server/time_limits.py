"""Time limits of steps, rounds and runs, and the quorum; times are passed in by the caller."""

from collections.abc import Callable
from typing import Protocol

from splitfl.config import FaultToleranceConfig
from splitfl.core.errors import Timeout


class Watched(Protocol):
    """The part of ServerLoop that time limits need."""

    def awaited(self) -> tuple[int, int] | None:
        """The client that blocks others, and the position of the message that they wait for."""

    def ready(self) -> frozenset[int]:
        """The present clients that have sent their awaited message."""

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """The current round, and the present clients that have not finished it."""


class Limits:
    """Finds clients beyond a limit of these settings; to be polled."""

    def __init__(
        self,
        fault_tolerance: FaultToleranceConfig,
        server_loop: Watched,
        now_s: float,
        takes_part: Callable[[int, int], bool] = lambda client, round_index: True,
    ) -> None:
        """`takes_part` is whether a client was selected for a round."""
        self._fault_tolerance = fault_tolerance
        self._server_loop = server_loop
        self._takes_part = takes_part
        self._blocking: tuple[int, int] | None = None
        self._awaited: tuple[int, int] | None = None
        self._awaited_since_s = now_s
        self._round = -1
        self._round_since_s = now_s

    def slow(self, now_s: float) -> dict[int, str]:
        """The client that blocks others for longer than `step_s`, with a sentence."""
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
        """The current round and a straggler to skip, since a quorum of others has sent its messages.

        Only a client that blocks the others in two consecutive polls.
        """
        if not self._fault_tolerance.quorum:
            return None
        before, self._blocking = self._blocking, self._server_loop.awaited()
        if self._blocking is None or self._blocking != before:
            return None
        round_index, _ = self._server_loop.unfinished()
        answered = sum(self._takes_part(client, round_index) for client in self._server_loop.ready())
        return (round_index, self._blocking[0]) if answered >= self._fault_tolerance.quorum else None

    def late(self, now_s: float) -> tuple[int, frozenset[int]]:
        """The current round, and the clients that have not finished it within `round_s`."""
        limit_s = self._fault_tolerance.round_s
        if not limit_s:
            return -1, frozenset()
        round_index, clients = self._server_loop.unfinished()
        if round_index != self._round:
            self._round, self._round_since_s = round_index, now_s
        return round_index, clients if now_s - self._round_since_s > limit_s else frozenset()


def check_run(fault_tolerance: FaultToleranceConfig, took_s: float) -> None:
    """Raises Timeout for a run that exceeds `run_s`."""
    if fault_tolerance.run_s and took_s > fault_tolerance.run_s:
        raise Timeout(
            f"the run took longer than fault_tolerance.run_s, {fault_tolerance.run_s:g} s; "
            "`splitfl resume` continues from its last checkpoint"
        )
