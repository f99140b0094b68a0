"""What every transport does with messages: each once, in order, whole, of any size; two runs apart."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from tests.splitfl.transport.conformance.conftest import Place
from tests.splitfl.transport.conformance.meeting import MIB, both, everywhere, in_thread
from tests.testbed.waiting import until


@everywhere
def test_concurrent_requests_are_answered_once_and_in_order(place: Place) -> None:
    server, one, other = both(place)
    frames = {client: [b"%d asks %d" % (client, i) for i in range(40)] for client in range(2)}

    def ask(client: int, end: Any) -> list[bytes]:
        return [end.request(frame) for frame in frames[client]]

    with ThreadPoolExecutor(2) as pool:
        answers = [asked.result() for asked in (pool.submit(ask, 0, one), pool.submit(ask, 1, other))]
    assert answers == [frames[0], frames[1]]
    assert [server.order(client) for client in range(2)] == [frames[0], frames[1]]
    assert set(server.calls().values()) == {1}


@everywhere
@pytest.mark.parametrize(
    "sizes",
    [(1, 2, 1024, 5 * MIB), pytest.param((64 * MIB,), marks=pytest.mark.slow)],
    ids=["small", "large"],
)
def test_a_message_of_any_size_arrives_whole(place: Place, sizes: tuple[int, ...]) -> None:
    _, client, _ = both(place)
    for size in sizes:
        frame = (b"0123456789abcdefg" * (size // 17 + 1))[:size]
        assert client.request(frame) == frame


@pytest.mark.slow
@pytest.mark.bench
@everywhere
def test_a_message_of_a_gibibyte_arrives_whole(place: Place) -> None:
    if psutil.virtual_memory().available < 10 << 30:
        pytest.skip("a message of 1 GiB, there and back, wants 10 GiB of free memory")
    _, client, _ = both(place, timeout_s=60.0)
    frame = bytes(1 << 30)
    assert client.request(frame) == frame


@everywhere
def test_an_answer_may_take_longer_than_the_time_after_which_a_silent_server_is_lost(place: Place) -> None:
    server, one, other = both(place, timeout_s=0.8)
    held = in_thread(one.request, b"hold on")
    until(lambda: (0, b"hold on") in server.calls())
    time.sleep(1.2)
    assert other.request(b"meanwhile") == b"meanwhile"
    assert not held.done()
    assert server.silent() == []
    server.release()
    assert held.result(10) == b"hold on"


@everywhere
def test_two_runs_at_once_do_not_meet(place: Place) -> None:
    first, second = both(place), both(place)
    assert first[0].address() != second[0].address()
    for number, (_, one, other) in enumerate((first, second)):
        assert one.request(b"run %d" % number) == other.request(b"run %d" % number)
    for number, (server, _, _) in enumerate((first, second)):
        assert set(server.calls()) == {(client, b"run %d" % number) for client in range(2)}
