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
def heartbeats(clock: Clock) -> Heartbeats:
    return Heartbeats(2, TIMEOUT_S, clock)


def told(heartbeats: Heartbeats) -> list[tuple[int, bool, int]]:
    return [(change.client, change.is_here, change.session) for change in heartbeats.changes()]


def both(heartbeats: Heartbeats) -> None:
    for client in range(2):
        assert heartbeats.admit(client, 0.0) == 1
        assert not heartbeats.ready(client, 1)
    heartbeats.begin()


def test_signs_of_life_come_four_to_a_timeout_and_never_more_than_five_seconds_apart() -> None:
    assert beat_s(TIMEOUT_S) == BEAT_S
    assert beat_s(600.0) == 5.0


def test_a_client_is_missing_until_it_is_ready_and_again_when_it_falls_silent(
    heartbeats: Heartbeats, clock: Clock
) -> None:
    assert heartbeats.admit(1, 0.0) == 1
    assert heartbeats.missing() == [0, 1]
    heartbeats.ready(1, 1)
    assert heartbeats.missing() == [0]
    clock.now_s += 2 * BEAT_S + 0.1
    assert heartbeats.missing() == [0, 1]


def test_a_second_client_is_refused_after_a_heartbeat_of_the_first(
    heartbeats: Heartbeats, clock: Clock
) -> None:
    both(heartbeats)
    assert heartbeats.admit(1, 0.0) == WAIT
    clock.now_s += 1.0
    heartbeats.beat(1, 1)
    assert heartbeats.admit(1, 1.0) == REFUSED
    assert heartbeats.beat(1, 1) == ""


def test_a_second_client_replaces_one_that_missed_two_heartbeats(
    heartbeats: Heartbeats, clock: Clock
) -> None:
    both(heartbeats)
    heartbeats.changes()
    clock.now_s += 2 * BEAT_S
    assert heartbeats.admit(1, 2 * BEAT_S) == WAIT
    clock.now_s += 0.1
    assert heartbeats.admit(1, 2 * BEAT_S + 0.05) == 2
    assert told(heartbeats) == [(1, False, 1), (1, True, 2)]
    assert heartbeats.beat(1, 1) == "another process has come as client 1 since"
    heartbeats.leave(1, 1)
    assert heartbeats.beat(1, 2) == ""


def test_silence_and_its_end_are_reported_once(heartbeats: Heartbeats, clock: Clock) -> None:
    both(heartbeats)
    heartbeats.changes()
    clock.now_s += TIMEOUT_S + 0.1
    heartbeats.beat(0, 1)
    assert heartbeats.silent() == [1]
    assert told(heartbeats) == [(1, False, 1)]
    assert told(heartbeats) == []
    heartbeats.beat(1, 1)
    assert heartbeats.silent() == []
    assert told(heartbeats) == [(1, True, 1)]


def test_a_client_that_leaves_before_the_start_is_not_counted(heartbeats: Heartbeats) -> None:
    assert heartbeats.admit(0, 0.0) == 1
    heartbeats.leave(0, 1)
    assert heartbeats.admit(0, 0.0) == 1


def test_a_client_that_left_is_not_silent_and_its_number_is_free(
    heartbeats: Heartbeats, clock: Clock
) -> None:
    both(heartbeats)
    heartbeats.leave(0, 1)
    clock.now_s += TIMEOUT_S + 0.1
    heartbeats.beat(1, 1)
    assert heartbeats.silent() == []
    assert heartbeats.admit(0, 0.0) == 2
