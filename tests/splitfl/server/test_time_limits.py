"""Whoever takes longer than the settings allow is named, at the time that the clock says."""

import pytest

from splitfl.config import FaultToleranceConfig
from splitfl.core.errors import ConfigError, Timeout
from splitfl.server.time_limits import Limits, check_run


class Watched:
    """What is awaited, and who is late."""

    def __init__(self) -> None:
        self.holds: tuple[int, int] | None = None
        self.round = 0
        self.said: frozenset[int] = frozenset()

    def awaited(self) -> tuple[int, int] | None:
        return self.holds

    def ready(self) -> frozenset[int]:
        return self.said

    def unfinished(self) -> tuple[int, frozenset[int]]:
        return self.round, frozenset({1, 2})


def test_a_client_that_holds_others_up_is_named_after_the_limit() -> None:
    server_loop = Watched()
    limits = Limits(FaultToleranceConfig(step_s=2.0), server_loop, 0.0)
    assert limits.slow(100.0) == {}
    server_loop.holds = (1, 7)
    assert limits.slow(101.0) == {}
    assert limits.slow(103.0) == {}
    assert list(limits.slow(103.5)) == [1]


def test_the_clock_of_a_step_begins_with_each_message() -> None:
    server_loop = Watched()
    limits = Limits(FaultToleranceConfig(step_s=2.0), server_loop, 0.0)
    for now_s, position in ((1.0, 5), (2.5, 6), (4.0, 7)):
        server_loop.holds = (1, position)
        assert limits.slow(now_s) == {}


def test_a_round_ends_as_soon_as_the_quorum_has_answered() -> None:
    server_loop = Watched()
    limits = Limits(
        FaultToleranceConfig(clients_per_round=3, quorum=2), server_loop, 0.0, lambda client, at: client < 3
    )
    server_loop.holds, server_loop.said = (2, 7), frozenset({0, 3})
    assert limits.straggler() is None
    assert limits.straggler() is None
    server_loop.said = frozenset({0, 1, 3})
    assert limits.straggler() == (0, 2)


def test_one_that_has_only_just_begun_to_hold_others_up_is_not_yet_straggler() -> None:
    server_loop = Watched()
    limits = Limits(FaultToleranceConfig(quorum=1), server_loop, 0.0)
    server_loop.said = frozenset({0})
    for position in range(3):
        server_loop.holds = (2, position)
        assert limits.straggler() is None


def test_where_all_clients_are_selected_none_is_a_straggler() -> None:
    server_loop = Watched()
    limits = Limits(FaultToleranceConfig(), server_loop, 0.0)
    server_loop.holds, server_loop.said = (2, 7), frozenset({0, 1})
    assert [limits.straggler() for _ in range(3)] == [None] * 3


def test_more_than_are_selected_can_never_be_enough() -> None:
    with pytest.raises(
        ConfigError,
        match=r"fault_tolerance\.quorum must be at most fault_tolerance\.clients_per_round, 2, got 3",
    ):
        FaultToleranceConfig(clients_per_round=2, quorum=3)


def test_a_client_that_has_not_finished_a_round_in_time_is_late() -> None:
    server_loop = Watched()
    limits = Limits(FaultToleranceConfig(round_s=5.0), server_loop, 0.0)
    assert limits.late(1.0) == (0, frozenset())
    assert limits.late(6.5) == (0, frozenset({1, 2}))
    server_loop.round = 1
    assert limits.late(7.0) == (1, frozenset())


def test_without_limits_no_client_is_late() -> None:
    server_loop = Watched()
    server_loop.holds = (0, 0)
    limits = Limits(FaultToleranceConfig(), server_loop, 0.0)
    limits.slow(0.0)
    assert limits.slow(1e9) == {}
    assert limits.late(1e9)[1] == frozenset()
    check_run(FaultToleranceConfig(), 1e9)


def test_a_run_over_its_time_ends_with_a_sentence() -> None:
    with pytest.raises(Timeout, match=r"longer than fault_tolerance\.run_s, 3 s; `splitfl resume` continues"):
        check_run(FaultToleranceConfig(run_s=3.0), 3.5)
