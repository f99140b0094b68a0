"""What RPC makes of peers that never come, and of servers that are none."""

import socket
import sys
import threading
import time
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from splitfl.errors import ConfigError, PeerLost, Timeout
from splitfl.transport.rpc import RpcServer
from splitfl.transport.rpc_client import RpcClient


@pytest.fixture
def server() -> Any:
    """A server for two clients that has put up an experiment."""
    made = RpcServer("127.0.0.1", 0, 2, 2.0, 4.0)
    made.offer({"federation": {"clients": 2}})
    yield made
    made.stop()


def test_a_client_reads_what_is_to_be_run(server: RpcServer) -> None:
    client = RpcClient("127.0.0.1", server.port, 1, 5.0)
    assert client.experiment == {"federation": {"clients": 2}}
    assert client.timeout_s == 2.0
    assert server.missing() == [0, 1]


def test_two_clients_of_one_number_are_one_too_many(server: RpcServer) -> None:
    RpcClient("127.0.0.1", server.port, 1, 5.0)
    with pytest.raises(ConfigError, match=r"another client 1 has joined 127.0.0.1:\d+ already"):
        RpcClient("127.0.0.1", server.port, 1, 5.0)
    RpcClient("127.0.0.1", server.port, 0, 5.0)


@pytest.mark.parametrize("number", [-1, 2])
def test_a_client_that_the_experiment_does_not_have_is_refused(server: RpcServer, number: int) -> None:
    with pytest.raises(ConfigError, match=rf"the client must lie in 0..1, got {number}"):
        RpcClient("127.0.0.1", server.port, number, 5.0)


def test_a_port_that_is_taken_is_named(server: RpcServer) -> None:
    with pytest.raises(
        ConfigError, match=rf"cannot listen on 127.0.0.1:{server.port}: Address already in use"
    ):
        RpcServer("127.0.0.1", server.port, 2, 2.0, 4.0)


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.1.1", "192.0.2.1", "no.such.host.invalid"])
def test_an_address_that_nobody_could_reach_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match=r"transport.host|no interface of this machine has"):
        RpcServer(host, 0, 2, 2.0, 4.0)


def test_a_server_that_is_not_there_is_missed_in_time() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        began_s = time.monotonic()
        with pytest.raises(Timeout, match=rf"no server at 127.0.0.1:{port} within 0.3 s: Connection refused"):
            RpcClient("127.0.0.1", port, 0, 0.3)
    assert time.monotonic() - began_s < 2.0


def test_a_server_of_another_kind_is_told_apart_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        began_s = time.monotonic()
        with pytest.raises(PeerLost, match=rf"127.0.0.1:{port} answers, but not as a splitfl server does"):
            RpcClient("127.0.0.1", port, 0, 0.5)
    assert time.monotonic() - began_s < 8.0


def test_a_server_that_hangs_up_is_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def hang_up() -> None:
            for _ in range(20):
                try:
                    opened, _ = listener.accept()
                except OSError:
                    return
                opened.close()

        threading.Thread(target=hang_up, daemon=True).start()
        with pytest.raises(PeerLost, match="answers, but not as a splitfl server does"):
            RpcClient("127.0.0.1", port, 0, 0.5)


ENTERS = """
import sys
from splitfl.transport.rpc import RpcServer
from splitfl.transport.rpc_client import RpcClient
port, number = map(int, sys.argv[1:])
try:
    if number < 0:
        server = RpcServer("127.0.0.1", 0, 2, 2.0, 10.0)
        server.offer({})
        print(server.port, flush=True)
        while server.missing():
            pass
        server.start(lambda client, frame, answer: None)
    else:
        RpcClient("127.0.0.1", port, number, 5.0).enter()
except Exception as error:
    print(type(error).__name__, error)
"""


@pytest.mark.slow
def test_who_dies_before_it_enters_the_group_is_missed_in_time(start: Any, tmp_path: Path) -> None:
    """Client 1 says that it is ready and is never seen again: torch itself would wait for 24 days."""

    def enter(port: int, number: int) -> tuple[Popen[bytes], Path]:
        said = tmp_path / f"said.{number}"
        words = (sys.executable, "-c", ENTERS, str(port), str(number))
        return start(*words, output=said, TORCH_CPP_LOG_LEVEL="ERROR"), said

    server, server_said = enter(0, -1)
    while not server_said.read_text().endswith("\n"):
        assert server.poll() is None
        time.sleep(0.1)
    port = int(server_said.read_text())
    gone = RpcClient("127.0.0.1", port, 1, 5.0)
    gone._store.set("splitfl/ready/1", "1")
    client, client_said = enter(port, 0)
    assert (server.wait(timeout=60), client.wait(timeout=10)) == (0, 0)
    assert (
        f"PeerLost server could not enter the RPC group at 127.0.0.1:{port} within 2 s"
        in server_said.read_text()
    )
    assert f"PeerLost client-0 could not enter the RPC group at 127.0.0.1:{port}" in client_said.read_text()
