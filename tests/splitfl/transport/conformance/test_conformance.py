"""What every transport does: the same cases on each; what only some can do says so."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest

from splitfl.errors import ConfigError, PeerLost, Timeout
from tests.splitfl.transport.conformance.conftest import ALL, NOT_RPC, RESUMING, TIMEOUT_S, Place
from tests.testbed.waiting import until

MIB = 1 << 20
everywhere = pytest.mark.parametrize("place", ALL, indirect=True)
but_for_rpc = pytest.mark.parametrize("place", NOT_RPC, indirect=True)
where_broken_connections_are_gone_on_from = pytest.mark.parametrize("place", RESUMING, indirect=True)


def go(server: Any, *clients: Any) -> None:
    """Lets the clients go, who are all there are."""
    with ThreadPoolExecutor(len(clients)) as pool:
        entering = [pool.submit(client.enter) for client in clients]
        until(lambda: not server.missing())
        server.start()
        for one in entering:
            one.result()


def both(place: Place, **settings: Any) -> tuple[Any, Any, Any]:
    """A server and its two clients, let go."""
    server = place.server(**settings)
    clients = [place.client(server.address(), number) for number in range(2)]
    go(server, *clients)
    return server, clients[0], clients[1]


def in_thread(work: Callable[..., Any], *arguments: Any) -> "Any":
    """Its result, or its error, to be waited for."""
    return ThreadPoolExecutor(1).submit(work, *arguments)


@everywhere
def test_a_client_reads_what_is_to_be_run_and_is_missing_until_it_is_ready(place: Place) -> None:
    server = place.server()
    client = place.client(server.address(), 1)
    assert client.experiment() == {"what": "to run", "of": place.name}
    assert server.missing() == [0, 1]
    entering = in_thread(client.enter)
    until(lambda: server.missing() == [0])
    other = place.client(server.address(), 0)
    go(server, other)
    entering.result(10)


@everywhere
def test_every_request_is_answered_once_and_in_order_whoever_else_asks(place: Place) -> None:
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
def test_clients_that_do_not_come_are_not_waited_for_for_ever(place: Place) -> None:
    server = place.server(join_timeout_s=0.5)
    with pytest.raises(Timeout, match=r"the other clients did not come within 0.5 s"):
        place.client(server.address(), 0).enter()


@everywhere
def test_a_client_that_does_not_keep_to_the_rules_is_told_so_and_ends(place: Place) -> None:
    server = place.server()
    hasty = place.client(server.address(), 0)
    with pytest.raises(PeerLost, match="will not go on: client 0 asked before it was let go"):
        hasty.request(b"already")
    assert place.client(server.address(), 1).experiment()


@everywhere
def test_two_clients_of_one_number_are_one_too_many(place: Place) -> None:
    server = place.server()
    first = place.client(server.address(), 1)
    assert first.experiment()
    with pytest.raises(ConfigError, match="another client 1 has joined"):
        place.client(server.address(), 1)
    assert place.client(server.address(), 0).experiment()


@but_for_rpc
@pytest.mark.parametrize("number", [-1, 2])
def test_a_client_that_the_experiment_does_not_have_is_refused(place: Place, number: int) -> None:
    server = place.server()
    with pytest.raises(ConfigError, match=rf"the client must lie in 0..1, got {number}"):
        place.client(server.address(), number)


@everywhere
def test_a_client_that_left_before_the_start_may_come_again(place: Place) -> None:
    server = place.server()
    entering = in_thread(place.client(server.address(), 1).experiment)
    entering.result(10)
    first = place.client(server.address(), 0)
    first.leave()
    again = until_admitted(place, server, 0)
    assert again.experiment()


def until_admitted(place: Place, server: Any, number: int) -> Any:
    """A client that comes as soon as the one before of its number is known to be gone."""

    def come() -> Any:
        try:
            return place.client(server.address(), number)
        except ConfigError:
            return None

    return until(come)


@but_for_rpc
def test_a_request_ends_when_its_client_leaves(place: Place) -> None:
    server, one, _ = both(place)
    held = in_thread(one.request, b"hold on")
    until(lambda: (0, b"hold on") in server.calls())
    one.leave()
    with pytest.raises(PeerLost, match="client 0 has left"):
        held.result(10)


@everywhere
def test_two_runs_at_once_do_not_meet(place: Place) -> None:
    first, second = both(place), both(place)
    assert first[0].address() != second[0].address()
    for number, (_, one, other) in enumerate((first, second)):
        assert one.request(b"run %d" % number) == other.request(b"run %d" % number)
    for number, (server, _, _) in enumerate((first, second)):
        assert set(server.calls()) == {(client, b"run %d" % number) for client in range(2)}


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("phase", ["before it enters", "between requests", "while it waits"])
def test_a_client_that_dies_is_missed_and_the_others_go_on(place: Place, phase: str) -> None:
    server = place.server()
    mortal = place.client(server.address(), 1, is_far=True)
    other = place.client(server.address(), 0)
    if phase == "before it enters":
        mortal.kill()
        until(lambda: server.missing() == [0, 1])
        again = until_admitted(place, server, 1)
        go(server, other, again)
    else:
        go(server, other, mortal)
        mortal.request(b"first")
        if phase == "while it waits":
            in_thread(mortal.request, b"hold on")
            until(lambda: (1, b"hold on") in server.calls())
        mortal.kill()
        gone = until(lambda: [change for change in server.changes() if not change.is_here], TIMEOUT_S + 3.0)
        assert [change.client for change in gone] == [1]
    assert other.request(b"still here") == b"still here"


@pytest.mark.slow
@where_broken_connections_are_gone_on_from
def test_a_client_that_dies_amid_a_message_is_missed_and_leaves_nothing_behind(place: Place) -> None:
    server = place.server()
    relay = place.relay(server.address())
    own = server.address().replace(str(relay_target(server)), str(relay.port))
    mortal, other = place.client(own, 1, is_far=True), place.client(server.address(), 0)
    go(server, other, mortal)
    relay.delay_s = 0.002
    in_thread(mortal.request, bytes(64 * MIB))
    until(lambda: server._end._desk._sessions[1].position[1] > MIB)
    mortal.kill()
    relay.cut()
    until(lambda: [change for change in server.changes() if not change.is_here], TIMEOUT_S + 3.0)
    again = until_admitted(place, server, 1)
    again.enter()
    assert again.request(b"anew") == b"anew"
    assert other.request(b"still here") == b"still here"
    assert set(server.calls()) == {(1, b"anew"), (0, b"still here")}


@pytest.mark.slow
@everywhere
def test_a_server_that_dies_is_missed_in_time(place: Place) -> None:
    server = place.server(is_far=True, timeout_s=2.0)
    clients = [place.client(server.address(), number) for number in range(2)]
    go(server, *clients)
    held = in_thread(clients[0].request, b"hold on")
    until(lambda: (0, b"hold on") in server.calls())
    server.kill()
    began_s = time.monotonic()
    with pytest.raises(PeerLost):
        held.result(20)
    assert time.monotonic() - began_s < 2.0 + 4.0


@where_broken_connections_are_gone_on_from
@pytest.mark.parametrize("phase", ["request", "wait", "answer"])
def test_a_broken_connection_is_gone_on_from_and_nothing_is_done_twice(place: Place, phase: str) -> None:
    server = place.server()
    relay = place.relay(server.address())
    own = server.address().replace(str(relay_target(server)), str(relay.port))
    one, other = place.client(own, 0), place.client(server.address(), 1)
    go(server, one, other)
    frame = (b"hold on " if phase == "wait" else b"a large one ") + bytes(3 * MIB)
    if phase != "wait":
        relay.cut_after_bytes = MIB if phase == "request" else 4 * MIB
    asked = in_thread(one.request, frame)
    if phase == "wait":
        until(lambda: (0, frame[:32]) in server.calls())
        relay.cut()
        server.release()
    assert asked.result(20) == frame
    assert relay.accepted >= 2
    assert server.calls() == {(0, frame[:32]): 1}
    assert one.request(b"and the next") == b"and the next"
    assert {change.session for change in server.changes()} == {1}


def relay_target(server: Any) -> int:
    return int(server.address().partition("/")[0].rpartition(":")[2])


@where_broken_connections_are_gone_on_from
def test_what_a_network_sends_twice_is_done_once(place: Place) -> None:
    server = place.server()
    relay = place.relay(server.address())
    relay.is_repeating = True
    one = place.client(server.address().replace(str(relay_target(server)), str(relay.port)), 0)
    relay.is_repeating = False
    go(server, one, place.client(server.address(), 1))
    frames = [b"number %d" % i for i in range(5)]
    assert [one.request(frame) for frame in frames] == frames
    assert server.order(0) == frames


@pytest.mark.slow
@where_broken_connections_are_gone_on_from
def test_a_connection_that_is_dead_without_a_word_is_given_up_for_another(place: Place) -> None:
    server = place.server()
    relay = place.relay(server.address())
    one = place.client(server.address().replace(str(relay_target(server)), str(relay.port)), 0)
    go(server, one, place.client(server.address(), 1))
    relay.hold()
    asked = in_thread(one.request, b"into the void")
    time.sleep(TIMEOUT_S / 2 + 0.5)
    relay.cut()
    relay.let_go()
    assert asked.result(TIMEOUT_S) == b"into the void"
    assert set(server.calls().values()) == {1}


@pytest.mark.slow
@everywhere
def test_a_killed_clients_number_may_be_taken_by_a_new_process(place: Place) -> None:
    server = place.server()
    mortal = place.client(server.address(), 1, is_far=True)
    other = place.client(server.address(), 0)
    go(server, other, mortal)
    assert mortal.request(b"of the first") == b"of the first"
    mortal.kill()
    second = until_admitted(place, server, 1)
    second.enter()
    assert second.request(b"of the second") == b"of the second"
    assert other.request(b"still here") == b"still here"
    told = [(change.is_here, change.session) for change in server.changes() if change.client == 1]
    assert told[-1] == (True, 2)
    assert (False, 1) in told


@where_broken_connections_are_gone_on_from
def test_a_slow_reader_holds_back_the_server_and_no_queue_grows(place: Place) -> None:
    server = place.server()
    relay = place.relay(server.address())
    one = place.client(server.address().replace(str(relay_target(server)), str(relay.port)), 0)
    go(server, one, place.client(server.address(), 1))
    frame = b"hold on " + bytes(32 * MIB)
    asked = in_thread(one.request, frame)
    until(lambda: (0, frame[:32]) in server.calls())
    relay.hold()
    server.release()
    outbox = server._end._desk._sessions[0].outbox
    until(lambda: outbox.kept_bytes == len(frame))
    time.sleep(0.5)
    assert 0 < outbox._sent < 24 * MIB
    relay.let_go()
    assert asked.result(20) == frame


@but_for_rpc
def test_a_server_that_is_not_there_is_missed_in_time(place: Place) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}" + ("/nobody" if place.name == "mqtt" else "")
        with pytest.raises(Timeout, match=r"no server at .* within 0.6 s: .*Connection refused"):
            place.client(address, 0, timeout_s=0.6)
