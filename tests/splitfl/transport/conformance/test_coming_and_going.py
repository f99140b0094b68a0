"""Who is let in on every transport, who is not, who is waited for, and what becomes of who leaves."""

import socket

import pytest

from splitfl.core.errors import ConfigError, PeerLost, Timeout
from tests.splitfl.transport.conformance.conftest import Place
from tests.splitfl.transport.conformance.meeting import (
    both,
    everywhere,
    go,
    in_thread,
    several_in_a_process,
    until_admitted,
)
from tests.testbed.waiting import until

LEAVES_AFTER_S = 0.5


@everywhere
def test_a_client_reads_the_experiment_and_is_missing_until_it_is_ready(place: Place) -> None:
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
def test_clients_that_do_not_come_are_not_waited_for_for_ever(place: Place) -> None:
    server = place.server(join_timeout_s=0.5)
    with pytest.raises(Timeout, match=r"the other clients did not come within 0.5 s"):
        place.client(server.address(), 0).enter()


@everywhere
def test_a_client_that_violates_the_protocol_is_refused_and_ends(place: Place) -> None:
    server = place.server()
    hasty = place.client(server.address(), 0)
    with pytest.raises(PeerLost, match="refused this client: client 0 sent a request before the run started"):
        hasty.request(b"already")
    assert place.client(server.address(), 1).experiment()


@everywhere
def test_two_clients_of_one_number_are_straggler(place: Place) -> None:
    server = place.server()
    first = place.client(server.address(), 1)
    assert first.experiment()
    with pytest.raises(ConfigError, match="another client 1 has joined"):
        place.client(server.address(), 1)
    assert place.client(server.address(), 0).experiment()


@several_in_a_process
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


@everywhere
def test_a_request_ends_when_its_client_leaves(place: Place) -> None:
    server, one, other = both(place)
    held = in_thread(one.leave_amid, b"hold on", LEAVES_AFTER_S)
    until(lambda: (0, b"hold on") in server.calls())
    assert held.result(20) == "client 0 has left"
    assert other.request(b"still here") == b"still here"


@several_in_a_process
def test_a_server_that_is_not_there_is_missed_in_time(place: Place) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{reserved.getsockname()[1]}" + ("/nobody" if not place.spec.own_host else "")
        with pytest.raises(Timeout, match=r"no (server|broker) at .*Connection refused") as missed:
            place.client(address, 0, timeout_s=0.6)
        assert "within 0.6 s" in str(missed.value)
