"""Who has a client's number, told by signs of life alone; the clock is the test's own."""

import pytest

from splitfl.transport.rpc.heartbeats import REFUSED, WAIT, Heartbeats, beat_s

TIMEOUT_S = 8.0
BEAT_S = 2.0


class Clock:
    """Stands still until it is told to go on."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def attendance(clock: Clock) -> Heartbeats:
    return Heartbeats(2, TIMEOUT_S, clock)


def told(attendance: Heartbeats) -> list[tuple[int, bool, int]]:
    return [(change.client, change.is_here, change.session) for change in attendance.changes()]


def both(attendance: Heartbeats) -> None:
    for client in range(2):
        assert attendance.admit(client, 0.0) == 1
        assert not attendance.ready(client, 1)
    attendance.begin()


def test_signs_of_life_come_four_to_a_timeout_and_never_more_than_five_seconds_apart() -> None:
    assert beat_s(TIMEOUT_S) == BEAT_S
    assert beat_s(600.0) == 5.0


def test_a_client_is_missing_until_it_is_ready_and_again_when_it_falls_silent(
    attendance: Heartbeats, clock: Clock
) -> None:
    assert attendance.admit(1, 0.0) == 1
    assert attendance.missing() == [0, 1]
    attendance.ready(1, 1)
    assert attendance.missing() == [0]
    clock.now_s += 2 * BEAT_S + 0.1
    assert attendance.missing() == [0, 1]


def test_a_second_client_is_refused_after_a_heartbeat_of_the_first(
    attendance: Heartbeats, clock: Clock
) -> None:
    both(attendance)
    assert attendance.admit(1, 0.0) == WAIT
    clock.now_s += 1.0
    attendance.hear(1, 1)
    assert attendance.admit(1, 1.0) == REFUSED
    assert attendance.hear(1, 1) == ""


def test_a_second_client_replaces_one_that_missed_two_heartbeats(
    attendance: Heartbeats, clock: Clock
) -> None:
    both(attendance)
    attendance.changes()
    clock.now_s += 2 * BEAT_S
    assert attendance.admit(1, 2 * BEAT_S) == WAIT
    clock.now_s += 0.1
    assert attendance.admit(1, 2 * BEAT_S + 0.05) == 2
    assert told(attendance) == [(1, False, 1), (1, True, 2)]
    assert attendance.hear(1, 1) == "another process has come as client 1 since"
    attendance.leave(1, 1)
    assert attendance.hear(1, 2) == ""


def test_silence_and_its_end_are_reported_once(attendance: Heartbeats, clock: Clock) -> None:
    both(attendance)
    attendance.changes()
    clock.now_s += TIMEOUT_S + 0.1
    attendance.hear(0, 1)
    assert attendance.silent() == [1]
    assert told(attendance) == [(1, False, 1)]
    assert told(attendance) == []
    attendance.hear(1, 1)
    assert attendance.silent() == []
    assert told(attendance) == [(1, True, 1)]


def test_a_client_that_leaves_before_the_start_is_not_counted(attendance: Heartbeats) -> None:
    assert attendance.admit(0, 0.0) == 1
    attendance.leave(0, 1)
    assert attendance.admit(0, 0.0) == 1


def test_a_client_that_left_is_not_silent_and_its_number_is_free(
    attendance: Heartbeats, clock: Clock
) -> None:
    both(attendance)
    attendance.leave(0, 1)
    clock.now_s += TIMEOUT_S + 0.1
    attendance.hear(1, 1)
    assert attendance.silent() == []
    assert attendance.admit(0, 0.0) == 2
