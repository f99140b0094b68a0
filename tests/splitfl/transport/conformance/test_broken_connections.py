"""Connections that break, repeat, fall silent or stand still, where a transport goes on from them."""

import time

import pytest

from tests.splitfl.transport.conformance.conftest import TIMEOUT_S, Place
from tests.splitfl.transport.conformance.meeting import (
    MIB,
    go,
    in_thread,
    relay_target,
    where_broken_connections_are_gone_on_from,
)
from tests.testbed.waiting import until


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
