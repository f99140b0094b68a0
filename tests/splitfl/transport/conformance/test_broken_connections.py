"""Connections that break, repeat, fall silent or stand still: gone on from, or given up for another's."""

import time

import pytest

from splitfl.core.errors import PeerLost
from splitfl.transport.registry import TRANSPORTS
from splitfl.transport.session.server import SessionServer
from tests.splitfl.transport.conformance.conftest import TIMEOUT_S, Place
from tests.splitfl.transport.conformance.meeting import (
    MIB,
    everywhere,
    go,
    in_thread,
    relay_target,
    until_admitted,
    where_broken_connections_are_gone_on_from,
)
from tests.testbed.waiting import until


@where_broken_connections_are_gone_on_from
@pytest.mark.parametrize("phase", ["request", "wait", "answer"])
def test_a_broken_connection_is_resumed_and_nothing_is_executed_twice(place: Place, phase: str) -> None:
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


@where_broken_connections_are_gone_on_from
def test_a_duplicated_request_is_executed_once(place: Place) -> None:
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


@where_broken_connections_are_gone_on_from
def test_a_slow_reader_holds_back_the_server_and_no_queue_grows(place: Place) -> None:
    server = place.server()
    if not isinstance(server._end, SessionServer):
        pytest.skip("this looks into a session's outbox; the case of who does not read shows it from outside")
    relay = place.relay(server.address())
    one = place.client(server.address().replace(str(relay_target(server)), str(relay.port)), 0)
    go(server, one, place.client(server.address(), 1))
    frame = b"hold on " + bytes(32 * MIB)
    asked = in_thread(one.request, frame)
    until(lambda: (0, frame[:32]) in server.calls())
    relay.hold()
    server.release()
    outbox = server._end._registry._sessions[0].outbox
    until(lambda: outbox.kept_bytes == len(frame))
    time.sleep(0.5)
    assert 0 < outbox._sent < 24 * MIB
    relay.let_go()
    assert asked.result(20) == frame


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("phase", ["request", "wait", "answer"])
def test_nothing_is_done_twice_for_a_client_whose_connections_break(place: Place, phase: str) -> None:
    """It goes on where its transport does; else it ends, and a process in its place goes on for it."""
    server = place.server()
    one, other = place.client(server.address(), 0, is_far=True), place.client(server.address(), 1)
    go(server, one, other)
    frame = (b"hold on " if phase == "wait" else b"a large one ") + bytes(
        (3 if phase == "wait" else 96) * MIB
    )
    asked = in_thread(one.break_amid, frame, phase, len(frame) if phase == "wait" else MIB)
    if phase == "wait":
        until(lambda: (0, frame[:32]) in server.calls())
        time.sleep(0.5)
        server.release()
    if TRANSPORTS[place.name].resumes:
        assert asked.result(30)
        assert server.calls() == {(0, frame[:32]): 1}
    else:
        with pytest.raises(PeerLost, match="went away"):
            asked.result(30)
        one.kill()
        one = until_admitted(place, server, 0)
        one.enter()
        assert server.calls().get((0, frame[:32]), 0) == (phase != "request")
    assert one.request(b"and the next") == b"and the next"
    assert other.request(b"still here") == b"still here"
    assert set(server.calls().values()) == {1}
    told = [(change.is_here, change.session) for change in server.changes() if change.client == 0]
    assert told[-1] == (True, 1 if TRANSPORTS[place.name].resumes else 2)


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("sleeper", ["client", "server"])
def test_a_slow_reader_throttles_the_sender_and_no_queue_grows(place: Place, sleeper: str) -> None:
    server = place.server(is_far=True)
    one, other = place.client(server.address(), 0, is_far=True), place.client(server.address(), 1)
    go(server, one, other)
    frame = b"hold on " + bytes(48 * MIB)
    if sleeper == "client":
        asked = in_thread(one.request, frame)
        until(lambda: (0, frame[:32]) in server.calls())
        asleep, sender = one, server
    else:
        asleep, sender = server, one
    before = sender.held_bytes()
    asleep.sleep()
    try:
        if sleeper == "client":
            server.release()
            assert [other.request(b"%d" % i) for i in range(20)] == [b"%d" % i for i in range(20)]
        else:
            asked = in_thread(one.request, frame)
        time.sleep(TIMEOUT_S / 4)
        full = sender.held_bytes()
        time.sleep(TIMEOUT_S / 4)
        assert sender.held_bytes() - full < 2 * MIB
        assert full - before < 3.5 * len(frame)
        assert not asked.done()
    finally:
        asleep.wake()
    server.release()
    assert asked.result(20) == frame
    assert server.calls()[0, frame[:32]] == 1


@pytest.mark.slow
@everywhere
def test_a_process_that_was_replaced_while_it_slept_is_not_heard_any_more(place: Place) -> None:
    server = place.server(timeout_s=2.0)
    one, other = place.client(server.address(), 0, is_far=True), place.client(server.address(), 1)
    go(server, one, other)
    one.sleep()
    try:
        until(lambda: [change for change in server.changes() if not change.is_here], 8.0)
        again = until_admitted(place, server, 0)
    finally:
        one.wake()
    again.enter()
    with pytest.raises(PeerLost):
        one.request(b"from another time")
    assert again.request(b"now") == b"now"
    assert other.request(b"still here") == b"still here"
    assert (0, b"from another time") not in server.calls()


@pytest.mark.slow
@everywhere
def test_a_server_that_does_nothing_any_more_is_missed_in_time(place: Place) -> None:
    server = place.server(is_far=True, timeout_s=2.0)
    one, other = place.client(server.address(), 0), place.client(server.address(), 1)
    go(server, one, other)
    assert one.request(b"first") == b"first"
    server.sleep()
    began_s = time.monotonic()
    try:
        with pytest.raises(PeerLost):
            one.request(b"into the void")
        assert time.monotonic() - began_s < 2.0 + 4.0
    finally:
        server.wake()
