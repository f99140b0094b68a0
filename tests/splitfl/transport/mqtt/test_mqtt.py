"""What only a broker brings with it: its own locks, its own absences, and topics that may be taken."""

import gc
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from splitfl.config import TransportConfig, chosen
from splitfl.core.errors import ConfigError, SplitflError, Timeout
from splitfl.transport.base.spec import Joining
from splitfl.transport.base.transport import ClientEnd, ServerEnd
from splitfl.transport.mqtt.broker import CHUNK_BYTES, WINDOW_BYTES, Broker
from splitfl.transport.mqtt.client import MqttConnector
from splitfl.transport.mqtt.server import MqttListener
from splitfl.transport.mqtt.spec import MqttSettings
from splitfl.transport.registry import transport
from splitfl.transport.security.certificates import make_certificates
from splitfl.transport.security.credentials import Credentials
from splitfl.transport.session.client import SessionClient
from splitfl.transport.session.server import SessionServer
from splitfl.transport.session.session_registry import SessionRegistry
from tests.splitfl.transport.broker_process import BrokerProcess

pytestmark = pytest.mark.slow


class Site:
    """A broker, and servers and clients that meet there."""

    def __init__(self, broker: BrokerProcess, stack: ExitStack) -> None:
        self.broker, self._stack = broker, stack

    def serve(self, timeout_s: float = 4.0, **settings: Any) -> ServerEnd:
        values = {"name": "mqtt", "port": self.broker.port, "timeout_s": timeout_s, "join_timeout_s": 10.0}
        config = chosen(TransportConfig, [MqttSettings], {**values, **settings})
        made = transport("mqtt").serve(config, 1)
        self._stack.callback(made.stop)
        made.offer({"what": "to run"})
        return made

    def join(self, address: str, timeout_s: float = 4.0, **own: Any) -> ClientEnd:
        made = transport("mqtt").join(Joining(address=address, client=0, timeout_s=timeout_s, **own))
        self._stack.callback(made.leave)
        return made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Starts a broker with these lines in its settings."""
    with ExitStack() as stack:

        def start(*lines: str) -> Site:
            broker = BrokerProcess(tmp_path, *lines)
            stack.callback(broker.stop)
            return Site(broker, stack)

        yield start


def enter(server: ServerEnd, client: ClientEnd) -> None:
    with ThreadPoolExecutor(1) as pool:
        entering = pool.submit(client.enter)
        while server.missing():
            time.sleep(0.01)
        server.start(lambda number, frame, answer: answer(frame))
        entering.result(10)


def test_a_run_waits_for_a_broker_that_is_down_and_continues(
    site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    here = site()
    server = here.serve(timeout_s=15.0)
    client = here.join(server.address)
    enter(server, client)
    assert client.request(b"before") == b"before"
    here.broker.stop()
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.request, b"meanwhile" * 100_000)
        time.sleep(1.0)
        here.broker.start()
        assert asked.result(20) == b"meanwhile" * 100_000
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any(line.startswith("lost the broker at 127.0.0.1:") for line in said)
    assert any(
        line.startswith("the server at 127.0.0.1:") and "client 0 tries again in" in line for line in said
    )
    assert {change.session for change in server.changes()} == {1}


def test_a_broker_that_comes_late_is_waited_for_and_one_that_never_comes_is_not(
    site: Callable[..., Site], caplog: pytest.LogCaptureFixture
) -> None:
    here = site()
    here.broker.stop()
    with ThreadPoolExecutor(1) as pool:
        served = pool.submit(here.serve, 8.0)
        time.sleep(0.5)
        here.broker.start()
        assert served.result(10).missing() == [0]
    assert "Connection refused; next attempt in 0.2 s" in caplog.text
    here.broker.stop()
    with pytest.raises(Timeout, match=r"no broker at 127.0.0.1:\d+: Connection refused, within 0.5 s"):
        here.serve(0.5)


def test_ended_connections_leave_no_socket_to_the_garbage_collector(site: Callable[..., Site]) -> None:
    here, process = site(), psutil.Process()
    gc.collect()
    gc.disable()
    try:
        before = process.num_fds()
        server = here.serve()
        client = here.join(server.address)
        enter(server, client)
        client.leave()
        server.stop()
        deadline_s = time.monotonic() + 10.0
        while process.num_fds() > before and time.monotonic() < deadline_s:
            time.sleep(0.05)
        assert process.num_fds() == before
    finally:
        gc.enable()


def test_a_run_that_has_no_server_is_not_waited_for_for_ever(site: Callable[..., Site]) -> None:
    here = site()
    with pytest.raises(
        Timeout, match=r"no server at 127.0.0.1:\d+/gone within 3 s: the broker has no server for 'gone'"
    ):
        here.join(f"127.0.0.1:{here.broker.port}/gone", timeout_s=3.0)


def test_a_topic_that_is_taken_is_named_and_free_once_its_server_stops(site: Callable[..., Site]) -> None:
    here = site()
    first = here.serve(topic="field-trial")
    with pytest.raises(ConfigError, match="another server has the topic 'field-trial' at"):
        here.serve(topic="field-trial")
    assert here.join(first.address).experiment
    first.stop()
    assert here.serve(topic="field-trial").address == first.address


def test_the_broker_password_is_read_from_a_file(site: Callable[..., Site], tmp_path: Path) -> None:
    (tmp_path / "users").write_text(MOSQUITTO_USERS)
    (tmp_path / "users").chmod(0o600)
    (tmp_path / "password").write_text("correct horse\n")
    (tmp_path / "password").chmod(0o600)
    (tmp_path / "wrong").write_text("battery\n")
    (tmp_path / "wrong").chmod(0o600)
    here = site("allow_anonymous false", f"password_file {tmp_path / 'users'}")
    own = {"user": "field", "password_file": str(tmp_path / "password")}
    server = here.serve(**own)
    assert here.join(server.address, **own).experiment
    with pytest.raises(ConfigError, match=r"the broker at .* refused: Not authorized"):
        here.join(server.address)
    with pytest.raises(ConfigError, match=r"the broker at .* refused: Not authorized"):
        here.serve(user="field", password_file=str(tmp_path / "wrong"))


# What `mosquitto_passwd` makes of the name `field` and the password `correct horse`.
MOSQUITTO_USERS = (
    "field:$7$101$NH8daKXN/cmS+1kF$nv/77DQy+TlkhjjUG0OCoXN8OlxlQvii1ubjiL2O"
    "alnHGxXX2/TFHK8wI2qSEc3VLaRmkUe9lvIgYG6iTm124Q==\n"
)


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_broker_is_reached_by_tls_and_believed_by_its_ca_only(
    site: Callable[..., Site], tmp_path: Path
) -> None:
    for name in ("ours", "theirs"):
        make_certificates(tmp_path / name, 1, ["127.0.0.1"], 10)
    ours = tmp_path / "ours"
    here = site(f"certfile {ours / 'server.crt'}", f"keyfile {ours / 'server.key'}")
    server = here.serve(tls_ca=str(ours / "ca.crt"))
    client = here.join(server.address, credentials=Credentials(ca=str(ours / "ca.crt")))
    enter(server, client)
    assert client.request(bytes(1 << 20)) == bytes(1 << 20)
    believing_others = Credentials(ca=str(tmp_path / "theirs" / "ca.crt"))
    with pytest.raises(ConfigError, match=r"TLS with the broker at .* failed: .*certificate verify failed"):
        here.join(server.address, credentials=believing_others)
    gc.collect()  # paho leaves the socket to the collector, which warns


@pytest.mark.parametrize("limit", ["message_size_limit 10000", "max_packet_size 10000"])
def test_a_broker_with_a_limit_gets_messages_that_it_takes(limit: str, site: Callable[..., Site]) -> None:
    here = site(limit)
    server = here.serve()
    client = here.join(server.address)
    enter(server, client)
    large = bytes(range(256)) * 4096
    assert client.request(large) == large


def test_a_broker_with_too_small_a_packet_size_is_refused_with_its_limit(site: Callable[..., Site]) -> None:
    with pytest.raises(ConfigError, match=r"rejects messages of 1024 bytes, the minimum of a run: it"):
        site("message_size_limit 500").serve()


def test_an_experiment_larger_than_a_message_is_refused(site: Callable[..., Site]) -> None:
    here = site("message_size_limit 2000")
    server = here.serve()
    with pytest.raises(ConfigError, match=r"a message of \d+ bytes; the broker accepts at most \d+"):
        server.offer({"long": "x" * 3000})


def test_a_limit_that_could_not_be_asked_for_is_found_on_the_way(site: Callable[..., Site]) -> None:
    """As with a broker that knows no MQTT 5: it confirms what it drops."""
    here = site("message_size_limit 50000")
    broker = Broker(host="127.0.0.1", port=here.broker.port, topic="t", credentials=Credentials())
    registry = SessionRegistry(1, 1.0, 10.0, CHUNK_BYTES, WINDOW_BYTES)
    server = SessionServer(registry, MqttListener(broker, registry, 4.0, is_new_topic=True))
    server.offer({"what": "to run"})
    client = SessionClient(MqttConnector(broker, 0), broker.address, 0, None, 4.0)
    try:
        enter(server, client)
        large = bytes(range(256)) * 1024
        assert client.request(large) == large
    finally:
        client.leave()
        server.stop()


ACCESS = {
    "write": (
        "topic read #",
        "does not allow the user 'field' to publish to splitfl/t/down/survey/survey",
    ),
    "read": ("topic write #", "took splitfl/t/server and did not hand it on: its access list must let"),
}


def limited(folder: Path, *lines: str) -> tuple[list[str], dict[str, str]]:
    """A broker's settings with this access list, and how its only user comes in."""
    for name, text in {
        "users": MOSQUITTO_USERS,
        "password": "correct horse\n",
        "list": "\n".join(["user field", *lines, ""]),
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    asked = ["allow_anonymous false", f"password_file {folder / 'users'}", f"acl_file {folder / 'list'}"]
    return asked, {"user": "field", "password_file": str(folder / "password")}


@pytest.mark.parametrize("what", ACCESS)
def test_a_servers_access_that_a_broker_denies_is_named(
    what: str, site: Callable[..., Site], tmp_path: Path
) -> None:
    line, reason = ACCESS[what]
    settings, own = limited(tmp_path, line)
    with pytest.raises(ConfigError, match=reason):
        site(*settings).serve(1.0, topic="t", **own)


@pytest.mark.parametrize(
    ("kept", "reason"),
    [
        ("up/0", "does not allow the user 'field' to publish to splitfl/t/up/0/survey: Not authorized"),
        ("down/0", "no answer; the broker's access list may block messages of this client to the server"),
    ],
)
def test_a_clients_access_that_a_broker_denies_is_named(
    kept: str, reason: str, site: Callable[..., Site], tmp_path: Path
) -> None:
    names = {"server", "up/0", "down/0", "down/survey"} - {kept}
    settings, own = limited(
        tmp_path, *(f"topic readwrite splitfl/t/{name}{'' if name == 'server' else '/#'}" for name in names)
    )
    here = site(*settings)
    server = here.serve(topic="t", **own)
    with pytest.raises(SplitflError, match=reason):
        here.join(server.address, 2.0, **own)


def test_a_broker_is_reached_over_ipv6_by_its_address_in_brackets() -> None:
    broker = Broker.parse("[::1]:1883/t", Credentials(), "", "")
    assert (broker.host, broker.port, broker.where) == ("::1", 1883, "[::1]:1883")
    assert broker.address == "[::1]:1883/t"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1:1883", "a run at a broker is HOST:PORT/TOPIC, got '127.0.0.1:1883'"),
        ("127.0.0.1:1883/a/#", "transport.topic must be letters, digits and ._- only, got 'a/#'"),
        ("1883/a", "a server's address must be HOST:PORT, got '1883'"),
    ],
)
def test_an_address_that_is_none_is_refused(address: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        Broker.parse(address, Credentials(), "", "")
