"""What RPC makes of peers that never come, and of servers that are none."""

import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from splitfl.config import TransportConfig
from splitfl.core.errors import ConfigError, PeerLost, Timeout
from splitfl.transport.grpc.spec import GrpcSettings
from splitfl.transport.registry import transport
from splitfl.transport.rpc import client as rpc_client
from splitfl.transport.rpc.client import RpcClient
from splitfl.transport.rpc.server import RpcServer
from splitfl.transport.security.certificates import make_certificates


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
    with pytest.raises(ConfigError, match=f"the server runs {what} {own[what]} but this client 0.0.1"):
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
def test_an_unreachable_address_is_refused(host: str) -> None:
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


def test_a_server_of_another_transport_is_detected_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        began_s = time.monotonic()
        with pytest.raises(PeerLost, match=rf"127.0.0.1:{port} answers, but not as a splitfl server does"):
            RpcClient("127.0.0.1", port, 0, 0.5)
    assert time.monotonic() - began_s < 8.0


JOIN = """
import sys
from splitfl.core.errors import SplitflError
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import transport
try:
    transport("rpc").join(Joining(address=sys.argv[1], client=0, timeout_s=2.0))
except SplitflError as error:
    sys.exit(str(error))
"""


@pytest.mark.slow
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_grpc_server_is_detected_at_once_and_the_process_exits_cleanly(
    is_closed: bool, tmp_path: Path
) -> None:
    make_certificates(tmp_path / "made", 1, ["127.0.0.1"], 10)
    own = GrpcSettings(secrets=str(tmp_path / "made") if is_closed else "")
    config = TransportConfig(name="grpc", settings=(own,))
    other = transport("grpc").serve(config, 1)
    try:
        began_s = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", JOIN, other.address],
            env={**os.environ, "PYTHONPATH": os.getcwd()},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        other.stop()
    assert done.returncode == 1, done.stderr
    assert done.stderr.splitlines() == [
        f"{other.address} answers, but not as a splitfl server does over PyTorch RPC; "
        "one over gRPC or MQTT is joined by --transport"
    ]
    assert time.monotonic() - began_s < 20.0


@pytest.mark.slow
def test_a_store_of_another_program_is_detected_in_time() -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    began_s = time.monotonic()
    with pytest.raises(PeerLost, match="answers, but not as a splitfl server does"):
        RpcClient("127.0.0.1", store.port, 0, 0.5)
    assert time.monotonic() - began_s < 4.0


def test_a_closed_connection_is_reported_without_a_stack_trace(
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
