"""Many threads, one order: whoever comes first, work is admitted and committed in turn."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitfl.core.errors import Timeout, WireError
from splitfl.server.service_order import ServiceOrder

Commit = tuple[int, int, int]


def run(gate: ServiceOrder, laps: list[int], rounds: int, hurry: random.Random) -> list[Commit]:
    """Plays all clients in threads of their own, each as fast as chance will have it."""
    commits: list[Commit] = []
    under_way: list[int] = []
    depths: list[int] = []

    def client(number: int) -> None:
        for round_index in range(rounds):
            for lap in range(laps[number]):
                is_step = 0 < lap < laps[number] - 1
                position = gate.admit(number, round_index, lap, alone=not is_step)
                if lap == 0:
                    gate.begin(number, laps[number])
                under_way.append(position)
                depths.append(len(under_way))
                gate.admitted(position)
                time.sleep(hurry.random() * 1e-4)
                gate.await_commit(position)
                commits.append((round_index, number, lap))
                under_way.remove(position)
                gate.committed(position, ends_round=gate.is_last(position))

    with ThreadPoolExecutor(len(laps)) as pool:
        for done in [pool.submit(client, number) for number in range(len(laps))]:
            done.result(timeout=20)
    assert max(depths) <= gate._in_flight
    return commits


@pytest.mark.slow
@settings(max_examples=25)
@given(
    laps=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    in_flight=st.integers(1, 3),
    chances=st.tuples(st.integers(), st.integers()),
)
def test_any_order_of_arrival_gives_the_same_order_of_commits(
    laps: list[int], in_flight: int, chances: tuple[int, int]
) -> None:
    orders = [
        run(ServiceOrder(7, len(laps), in_flight), laps, 3, random.Random(chance)) for chance in chances
    ]
    alone = run(ServiceOrder(7, len(laps), 1), laps, 3, random.Random(0))
    assert orders == [alone, alone]
    wanted = {
        (at, client, lap) for at in range(3) for client, count in enumerate(laps) for lap in range(count)
    }
    assert set(alone) == wanted
    assert len(alone) == len(wanted)


def test_so_many_steps_are_under_way_at_the_same_time_and_no_more() -> None:
    gate = ServiceOrder(0, 3, 2)
    for client in range(3):
        place = gate.admit(client, 0, 0, alone=True)
        gate.begin(client, 3)
        gate.admitted(place)
        gate.committed(place, ends_round=False)
    order = [client for client, lap in gate._turns.order() if lap == 1]
    for client in order[:2]:
        gate.admitted(gate.admit(client, 0, 1, alone=False))
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(gate.admit, order[2], 0, 1, alone=False)
        assert not soon(third.done)
        gate.committed(3, ends_round=False)
        assert third.result(timeout=5) == 5


class LookedAt(ServiceOrder):
    """Counts how often somebody looks whether it is his turn."""

    looks = 0

    def _is_out_of_turn(self, client: int, round_index: int, lap: int) -> bool:
        self.looks += 1
        return super()._is_out_of_turn(client, round_index, lap)


def test_with_many_clients_only_those_whose_turn_it_may_be_are_woken() -> None:
    """Or a message costs the more, the more clients wait."""
    clients, gate = 40, LookedAt(0, 40, 1)
    with ThreadPoolExecutor(clients) as pool:

        def play(client: int) -> None:
            for lap in range(2):
                place = gate.admit(client, 0, lap, alone=True)
                if lap == 0:
                    gate.begin(client, 2)
                gate.admitted(place)
                gate.await_commit(place)
                gate.committed(place, ends_round=gate.is_last(place))

        for done in [pool.submit(play, client) for client in reversed(range(clients))]:
            done.result(timeout=20)
    assert gate.looks < 8 * 2 * clients


def test_a_failure_wakes_everybody_with_its_reason() -> None:
    gate = ServiceOrder(0, 4, 1)
    first = Timeout("client 3 was silent for 5 s and is lost")
    with ThreadPoolExecutor(3) as pool:
        waiting = [pool.submit(gate.admit, client, 0, 0, alone=True) for client in (1, 2, 3)]
        assert not soon(lambda: any(one.done() for one in waiting))
        gate.fail(first)
        gate.fail(Timeout("another reason, too late"))
        for one in waiting:
            assert one.exception(timeout=5) is first
    with pytest.raises(Timeout, match="client 3 was silent"):
        gate.await_commit(9)


@pytest.mark.parametrize(
    ("client", "round_index", "lap"),
    [(2, 0, 0), (-1, 0, 0), (0, 2, 0), (0, -1, 0), (0, 0, -1)],
)
def test_a_message_that_can_never_have_a_turn_is_refused(client: int, round_index: int, lap: int) -> None:
    with pytest.raises(WireError, match=f"client {client} sent message {lap} of round {round_index}"):
        ServiceOrder(0, 2, 1).admit(client, round_index, lap, alone=True)


def test_a_duplicate_message_is_refused() -> None:
    gate = ServiceOrder(0, 2, 1)
    place = gate.admit(0, 0, 0, alone=True)
    gate.begin(0, 2)
    gate.admitted(place)
    gate.committed(place, ends_round=False)
    with pytest.raises(WireError, match="client 0 sent message 0 of round 0"):
        gate.admit(0, 0, 0, alone=True)


def test_a_message_beyond_the_announced_number_is_refused() -> None:
    gate = ServiceOrder(0, 1, 1)
    place = gate.admit(0, 0, 0, alone=True)
    gate.begin(0, 2)
    gate.admitted(place)
    gate.committed(place, ends_round=False)
    with pytest.raises(WireError, match="client 0 sent message 2 of round 0"):
        gate.admit(0, 0, 2, alone=True)


def soon(happened: Callable[[], bool], within_s: float = 0.05) -> bool:
    """Whether it happens within a moment."""
    waited = threading.Event()
    deadline_s = time.monotonic() + within_s
    while time.monotonic() < deadline_s and not happened():
        waited.wait(0.005)
    return happened()
