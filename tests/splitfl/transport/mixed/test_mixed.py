"""Several transports at one server: settings, refusals, and which client belongs to which."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from splitfl.config import TransportConfig, chosen
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment_file import as_dict, from_dict
from splitfl.transport.base.reachability import ClientReach, Reach
from splitfl.transport.base.spec import Joining
from splitfl.transport.grpc import spec as grpc
from splitfl.transport.mixed.server import MixedServer
from splitfl.transport.registry import join_arguments, transport
from splitfl.wire import Refusal, decode
from tests.testbed.waiting import until

MIXED = transport("mixed")


def config_of(**values: Any) -> TransportConfig:
    return chosen(TransportConfig, [MIXED.settings], {"name": "mixed", **values})


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"clients": ()}, "transport.clients must name the transport of each client, got none"),
        ({"clients": ("rpc", "radio")}, r"unknown transport.clients\[1\] 'radio'; have grpc, mqtt, rpc"),
        ({"clients": ("rpc", "mixed")}, r"unknown transport.clients\[1\] 'mixed'"),
        ({"clients": ("rpc", "grpc"), "rpc_port": 9, "grpc_port": 9}, "must differ, got 9 for both"),
        ({"clients": ("grpc",), "grpc_port": -1}, r"transport.grpc_port must lie in \[0, 65535\], got -1"),
        ({"clients": ("grpc",), "port": 9}, "transport.port must be 0 with the transport 'mixed'.*got 9"),
        ({"clients": ("mqtt",)}, "transport.broker must be HOST:PORT, got ''"),
        ({"clients": ("rpc",), "secrets": "x"}, "transport.secrets is read for clients over grpc"),
        ({"clients": ("rpc",), "user": "x"}, "transport.user is read for clients over mqtt"),
        ({"clients": ("rpc",), "grpc_port": 9}, "transport.grpc_port is read for clients over grpc"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        MIXED.check_server(config_of(**values))


def test_another_number_of_clients_is_refused() -> None:
    two = config_of(clients=("grpc", "grpc"))
    with pytest.raises(ConfigError, match=r"each of the 3 clients \(federation.clients\), got 2"):
        MIXED.serve(two, 3)
    with pytest.raises(ConfigError, match="transport of client 2, got 2"):
        join_arguments(two, "grpc 127.0.0.1:1", 2)


def test_each_client_joins_the_address_of_its_own_transport_with_its_own_files() -> None:
    config = config_of(
        clients=("rpc", "grpc", "mqtt"), secrets="certs", broker="10.0.0.9:1883", user="me", tls_ca="ca.crt"
    )
    address = "rpc 10.0.0.1:1, grpc 10.0.0.1:2, mqtt 10.0.0.9:1883/run"
    assert [join_arguments(config, address, client) for client in range(3)] == [
        ["10.0.0.1:1", "--transport", "rpc"],
        ["10.0.0.1:2", "--transport", "grpc", "--secrets", "certs"],
        ["10.0.0.9:1883/run", "--transport", "mqtt", "--user", "me", "--tls-ca", "ca.crt"],
    ]
    assert MIXED.location(address) == {"rpc_port": 1, "grpc_port": 2, "topic": "run"}


def test_it_is_advised_where_no_two_clients_need_the_same_transport() -> None:
    near = ClientReach(client="a", port="open", up="open", down="open")
    far = ClientReach(client="b", port="open", up="silent", down="open")
    away = ClientReach(client="c", port="silent", up="silent", down="silent", broker="open")
    diagnose = MIXED.diagnose
    assert diagnose is not None

    def told(*clients: ClientReach) -> tuple[bool, str]:
        found = diagnose(Reach(clients=clients, server_to_broker="open"))
        return found.works, found.why

    assert told(near, far, away) == (True, "a over rpc, b over grpc, c over mqtt")
    assert told(near, near) == (False, "all clients have the same first transport, rpc")
    alone = ClientReach(client="d", port="silent", broker="silent")
    assert told(near, alone) == (False, "no transport works for d")


Served = tuple[MixedServer, list[int]]


@pytest.fixture
def served() -> Iterator[Served]:
    """Two listeners, of which client 0 belongs to the first and client 1 to the second."""
    calls: list[int] = []
    with ExitStack() as stack:
        ends = {}
        for name in ("rpc", "grpc"):
            ends[name] = grpc.SPEC.serve(chosen(TransportConfig, [grpc.GrpcSettings], {"name": "grpc"}), 2)
        server = MixedServer(ends, ("rpc", "grpc"))
        stack.callback(server.stop)
        settings = {"federation": {"clients": 2}, "transport": {"name": "mixed", "clients": ["rpc", "grpc"]}}
        server.offer(as_dict(from_dict(settings)))
        yield server, calls


def test_a_client_counts_and_is_answered_over_its_own_transport_alone(served: Served) -> None:
    server, calls = served
    first, second = (address.split()[1] for address in server.address.split(", "))
    with ExitStack() as stack:

        def joined(address: str, client: int) -> Any:
            end = grpc.SPEC.join(Joining(address=address, client=client, timeout_s=10.0))
            stack.callback(end.leave)
            return end

        ends = [joined(first, 0), joined(second, 1), joined(first, 1)]
        assert server.missing() == [0, 1]

        def handle(client: int, frame: bytes, answer: Any) -> None:
            calls.append(client)
            answer(frame)

        server.start(handle)
        for end in ends:
            end.enter()
        until(lambda: server.missing() == [])
        assert [end.request(b"frame") for end in ends[:2]] == [b"frame", b"frame"]
        refused = decode(ends[2].request(b"frame"))[0]
        assert isinstance(refused, Refusal)
        assert refused.reason == "client 1 must join over grpc (transport.clients), not over rpc"
        assert calls == [0, 1]
        assert server.silent() == []
        assert sorted(change.client for change in server.changes()) == [0, 1]


@pytest.mark.parametrize(("client", "own"), [(0, "rpc"), (1, "grpc")])
def test_a_client_that_joins_over_another_transport_than_its_own_is_refused_at_once(
    served: Served, client: int, own: str, tmp_path: Path
) -> None:
    """One that joins over its own goes on to the model, which is not there."""
    address = served[0].address.split(", ")[1].split()[1]
    words = ("join", address, "--transport", "grpc", "--client", str(client), "--model", str(tmp_path / "no"))
    result = CliRunner().invoke(main, [*words, "--message-times", str(tmp_path / "times.jsonl")])
    assert result.exit_code != 0
    said = f"--transport must be rpc for client {client} (transport.clients), got 'grpc'"
    assert (said in result.stderr) == (own != "grpc"), result.stderr


def test_nobody_joins_over_mixed_itself() -> None:
    with pytest.raises(ConfigError, match="--transport must be the client's own of rpc, grpc, mqtt"):
        MIXED.check_join(Joining(address="127.0.0.1:1", client=0, timeout_s=1.0))
