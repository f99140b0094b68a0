"""What RPC makes of peers that never come, and of servers that are none."""

import socket
import threading
import time
from typing import Any

import pytest

from splitfl.errors import ConfigError, PeerLost, Timeout
from splitfl.transport import rpc_client
from splitfl.transport.rpc import RpcServer
from splitfl.transport.rpc_client import RpcClient


@pytest.fixture
def server() -> Any:
    """A server for two clients that has put up an experiment."""
    made = RpcServer("127.0.0.1", 0, 2, 2.0, 4.0)
    made.offer({"federation": {"clients": 2}})
    yield made
    made.stop()


@pytest.mark.parametrize("number", [-1, 2])
def test_a_client_that_the_experiment_does_not_have_is_refused(server: RpcServer, number: int) -> None:
    with pytest.raises(ConfigError, match=rf"the client must lie in 0..1, got {number}"):
        RpcClient("127.0.0.1", server.port, number, 5.0)


@pytest.mark.parametrize("what", ["protocol", "torch"])
def test_a_client_of_another_version_is_refused_with_both_named(
    server: RpcServer, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = rpc_client.versions()
    monkeypatch.setattr(rpc_client, "versions", lambda: {**own, what: "0.0.1"})
    with pytest.raises(ConfigError, match=f"the server runs {what} {own[what]} and this client 0.0.1"):
        RpcClient("127.0.0.1", server.port, 0, 5.0)


def test_a_process_serves_one_run_at_a_time_over_rpc(server: RpcServer) -> None:
    with pytest.raises(ConfigError, match="PyTorch RPC carries one run a process"):
        RpcServer("127.0.0.1", 0, 2, 2.0, 4.0)


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


def test_a_server_that_hangs_up_is_told_apart_without_a_stack_trace(
    capfd: pytest.CaptureFixture[str],
) -> None:
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
    assert capfd.readouterr().err == ""
