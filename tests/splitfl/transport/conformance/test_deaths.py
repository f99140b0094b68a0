"""Peers that die on every transport, in every phase: they are missed, and nobody else is."""

import time

import pytest

from splitfl.core.errors import PeerLost
from tests.splitfl.transport.conformance.conftest import TIMEOUT_S, Place
from tests.splitfl.transport.conformance.meeting import (
    MIB,
    everywhere,
    go,
    in_thread,
    until_admitted,
)
from tests.testbed.waiting import until


@pytest.mark.slow
@everywhere
@pytest.mark.parametrize("phase", ["before it enters", "between requests", "while it waits"])
def test_a_dead_client_is_detected_and_the_others_continue(place: Place, phase: str) -> None:
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
@everywhere
def test_a_client_that_dies_amid_a_message_is_missed_and_leaves_nothing_behind(place: Place) -> None:
    server = place.server()
    mortal, other = place.client(server.address(), 1, is_far=True), place.client(server.address(), 0)
    go(server, other, mortal)
    with pytest.raises(EOFError):
        mortal.die_amid(bytes(96 * MIB), MIB)
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
