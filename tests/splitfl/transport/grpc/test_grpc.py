"""What only the one-port transport does: TLS, tokens, certificates, proxies, and no port shared."""

import logging
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from splitfl.config import TransportConfig, chosen
from splitfl.core.errors import ConfigError, Timeout
from splitfl.transport.base.spec import Joining
from splitfl.transport.base.transport import ClientEnd, ServerEnd
from splitfl.transport.grpc.spec import GrpcSettings
from splitfl.transport.registry import transport
from splitfl.transport.security.certificates import make_certificates
from splitfl.transport.security.credentials import Credentials, read_certificate
from splitfl.transport.session import client as session_client
from tests.splitfl.transport.connect_proxy import ConnectProxy
from tests.splitfl.transport.ipv6 import has_ipv6

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    make_certificates(folder, 2, ["127.0.0.1"], 10)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody else has made for himself."""
    folder = tmp_path_factory.mktemp("others")
    make_certificates(folder, 2, ["127.0.0.1"], 10)
    return folder


@pytest.fixture
def server(secrets: Path) -> Iterator[ServerEnd]:
    made = serve(secrets=str(secrets))
    yield made
    made.stop()


def serve(**settings: Any) -> ServerEnd:
    values = {"name": "grpc", "timeout_s": 3.0, "join_timeout_s": 10.0, **settings}
    made = transport("grpc").serve(chosen(TransportConfig, [GrpcSettings], values), 2)
    made.offer({"what": "to run"})
    return made


def join(server: ServerEnd, client: int, credentials: Credentials, timeout_s: float = 0.7) -> ClientEnd:
    joining = Joining(address=server.address, client=client, timeout_s=timeout_s, credentials=credentials)
    return transport("grpc").join(joining)


def files(folder: Path, client: int, **other: str) -> Credentials:
    own = Credentials.in_folder(folder, f"client-{client}")
    return Credentials(**{**vars(own), **other})


def test_a_client_with_all_its_secrets_is_let_in(server: ServerEnd, secrets: Path) -> None:
    client = join(server, 1, files(secrets, 1))
    assert client.experiment == {"what": "to run"}
    client.leave()


@pytest.mark.parametrize(
    ("client", "changes", "reason"),
    [
        (1, {"token_file": "client-0.token"}, "client 1 came with a wrong token"),
        (1, {"token_file": ""}, "client 1 came without a token; give it one by --token-file"),
        (
            0,
            {"cert": "client-1.crt", "key": "client-1.key"},
            "the certificate is client-1's but the client claims to be client 0",
        ),
    ],
    ids=["another's token", "no token", "another's certificate"],
)
def test_a_certificate_of_another_client_is_refused_with_the_reason_on_both_sides(
    client: int,
    changes: dict[str, str],
    reason: str,
    server: ServerEnd,
    secrets: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    changed = {name: str(secrets / path) if path else "" for name, path in changes.items()}
    with pytest.raises(ConfigError, match=reason):
        join(server, client, files(secrets, client, **changed))
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.getMessage().startswith("refused ipv4:127.0.0.1:")
    assert record.getMessage().endswith(reason)
    assert (secrets / "client-0.token").read_text().strip() not in caplog.text
    assert server.missing() == [0, 1]


@pytest.mark.parametrize("what", ["unknown certificate", "no certificate", "no TLS"])
def test_a_client_without_a_trusted_certificate_gets_no_connection(
    what: str, server: ServerEnd, secrets: Path, others: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    token, ca = str(secrets / "client-0.token"), str(secrets / "ca.crt")
    shown = {
        "unknown certificate": files(others, 0, ca=ca, token_file=token),
        "no certificate": Credentials(ca=ca, token_file=token),
        "no TLS": Credentials(),
    }
    with pytest.raises(Timeout, match="if the server requires TLS, or another certificate, only its own log"):
        join(server, 0, shown[what])
    assert "Handshake failed" in capfd.readouterr().err  # gRPC itself tells the server's log


def test_a_server_that_another_has_certified_is_not_believed(
    server: ServerEnd, secrets: Path, others: Path
) -> None:
    with pytest.raises(ConfigError, match=r"TLS with the server at 127.0.0.1:\d+ failed: .*(?i:certificate)"):
        join(server, 0, files(secrets, 0, ca=str(others / "ca.crt")))


def test_a_server_under_another_name_is_not_believed(tmp_path: Path) -> None:
    make_certificates(tmp_path / "named", 2, ["lab.example"], 10)
    server = serve(secrets=str(tmp_path / "named"))
    try:
        with pytest.raises((ConfigError, Timeout), match=r"(?i)hostname|peer name"):
            join(server, 0, files(tmp_path / "named", 0))
    finally:
        server.stop()


def test_an_expired_certificate_is_not_even_shown(server: ServerEnd, secrets: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path / "old", 2, ["127.0.0.1"], 30, LONG_AGO)
    old = files(tmp_path / "old", 0, ca=str(secrets / "ca.crt"))
    with pytest.raises(ConfigError, match=r"client-0.crt is valid from 2019-12-31 to 2020-01-31, not today"):
        join(server, 0, old)
    with pytest.raises(ConfigError, match=r"server.crt is valid from 2019-12-31 to 2020-01-31"):
        serve(secrets=str(tmp_path / "old"))


def test_a_clock_that_is_behind_is_named_beside_a_certificate_of_the_future(
    server: ServerEnd, secrets: Path, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    make_certificates(tmp_path / "new", 2, ["127.0.0.1"], 30, now + timedelta(days=2))
    new = files(tmp_path / "new", 0, ca=str(secrets / "ca.crt"))
    with pytest.raises(ConfigError, match=f"not today, which is {now:%Y-%m-%d} by this machine's clock"):
        join(server, 0, new)
    make_certificates(tmp_path / "soon", 2, ["127.0.0.1"], 30, now + timedelta(minutes=50))
    assert read_certificate(str(tmp_path / "soon" / "client-0.crt"))  # a clock may be an hour behind


def test_a_client_without_a_certificate_may_do_with_a_token(secrets: Path) -> None:
    own = {"tls_cert": "server.crt", "tls_key": "server.key", "token_file": "server.tokens"}
    server = serve(**{name: str(secrets / path) for name, path in own.items()})
    try:
        mine = Credentials(ca=str(secrets / "ca.crt"), token_file=str(secrets / "client-1.token"))
        assert join(server, 1, mine).experiment
        with pytest.raises(ConfigError, match="client 0 came with a wrong token"):
            join(server, 0, mine)
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"secrets": "nowhere"}, "cannot read nowhere/server.tokens: No such file"),
        ({"tls_cert": "x.crt"}, "transport.tls_cert and transport.tls_key are given together"),
        ({"secrets": "x", "tls_ca": "y"}, "transport.secrets stands for all"),
        ({"token_file": "{}/server.tokens"}, "tokens must not travel in the clear"),
        ({"token_file": "{}/ca.crt"}, r"ca.crt:1 must be a client's number and the SHA-256 of its token"),
        (
            {"tls_cert": "{}/server.key", "tls_key": "{}/server.key"},
            "server.key is no certificate",
        ),
    ],
)
def test_files_that_are_no_good_are_named(settings: dict[str, str], reason: str, secrets: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        serve(**{name: path.format(secrets) for name, path in settings.items()})


def test_a_token_is_not_sent_in_the_clear(server: ServerEnd, secrets: Path) -> None:
    with pytest.raises(ConfigError, match="a token must not travel in the clear"):
        join(server, 0, Credentials(token_file=str(secrets / "client-0.token")))


def test_a_port_that_is_taken_is_named() -> None:
    server = serve()
    try:
        port = int(server.address.rpartition(":")[2])
        with pytest.raises(ConfigError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use"):
            serve(port=port)
    finally:
        server.stop()


@pytest.mark.parametrize("what", ["protocol", "torch"])
def test_a_client_of_another_version_is_refused_with_both_named(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = session_client.versions()
    monkeypatch.setattr(session_client, "versions", lambda: {**own, what: "0.0.1"})
    server = serve()
    try:
        with pytest.raises(ConfigError, match=f"the server runs {what} {own[what]} but this client 0.0.1"):
            join(server, 0, Credentials())
    finally:
        server.stop()


NOISE = {"nothing": b"", "HTTP/1": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "noise": bytes(range(256)) * 40}


@pytest.mark.parametrize("noise", NOISE.values(), ids=NOISE)
def test_foreign_traffic_does_not_disturb_a_run(noise: bytes) -> None:
    server = serve()
    try:
        host, _, port = server.address.partition(":")
        with socket.create_connection((host, int(port)), timeout=5) as stranger:
            stranger.sendall(noise)
            assert join(server, 0, Credentials(), 5.0).experiment
    finally:
        server.stop()


JOIN = """
import sys
from splitfl.core.errors import SplitflError
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import transport
from splitfl.transport.security.credentials import Credentials
address, ca, timeout_s = sys.argv[1:]
own = Credentials(ca=ca)
try:
    joining = Joining(address=address, client=1, timeout_s=float(timeout_s), credentials=own)
    print(transport("grpc").join(joining).experiment)
except SplitflError as error:
    print(error)
"""


def joined_in(environment: dict[str, str], address: str, ca: str = "", timeout_s: float = 20.0) -> str:
    """What a client says in a process of its own, since gRPC reads the environment of a process."""
    done = subprocess.run(
        [sys.executable, "-c", JOIN, address, ca, str(timeout_s)],
        env={**os.environ, "no_proxy": "", "PYTHONPATH": os.getcwd(), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip() or done.stderr


@pytest.mark.slow
def test_a_client_behind_an_http_proxy_gets_through(tmp_path: Path) -> None:
    make_certificates(tmp_path / "far", 1, ["far.invalid"], 10)
    own = {name: str(tmp_path / "far" / f"server.{end}") for name, end in ENDINGS.items()}
    server = serve(**own)
    try:
        with ConnectProxy() as proxy:
            address = f"far.invalid:{server.address.rpartition(':')[2]}"
            named = {"grpc_proxy": f"http://127.0.0.1:{proxy.port}"}
            assert joined_in(named, address, str(tmp_path / "far" / "ca.crt")) == "{'what': 'to run'}"
    finally:
        server.stop()
    assert proxy.asked == [f"CONNECT {address} HTTP/1.1"]


ENDINGS = {"tls_cert": "crt", "tls_key": "key"}


@pytest.mark.slow
@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_local_addresses_bypass_proxies(variable: str, host: str) -> None:
    server = serve()
    try:
        with ConnectProxy() as proxy:
            address = f"{host}:{server.address.rpartition(':')[2]}"
            named = {variable: f"http://127.0.0.1:{proxy.port}", "no_proxy": "elsewhere.invalid"}
            assert joined_in(named, address) == "{'what': 'to run'}"
    finally:
        server.stop()
    assert proxy.asked == []


@pytest.mark.slow
def test_a_proxy_that_is_away_is_named_with_its_variable_and_without_its_password() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        where = f"127.0.0.1:{reserved.getsockname()[1]}"
        said = joined_in({"http_proxy": f"http://me:secret@{where}"}, "far.invalid:50051", timeout_s=2.0)
    assert said.startswith("no server at far.invalid:50051 within 2 s: ")
    assert f"(tried through the HTTP proxy {where} that the variable http_proxy names)" in said
    assert "secret" not in said


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_a_server_is_reached_over_ipv6_by_its_address_in_brackets(host: str, tmp_path: Path) -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    make_certificates(tmp_path / "six", 2, ["::1"], 10)
    server = serve(host=host, secrets=str(tmp_path / "six"))
    try:
        assert server.address.startswith("[::1]:")
        client = join(server, 1, files(tmp_path / "six", 1), 5.0)
        assert client.experiment == {"what": "to run"}
        client.leave()
    finally:
        server.stop()


def test_secrets_are_readable_by_their_owner_only_and_never_overwritten(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    written = make_certificates(folder, 1, ["127.0.0.1", "lab.example"], 10)
    assert {path.name for path in written} == {path.name for path in folder.iterdir()}
    assert {stat.S_IMODE(path.stat().st_mode) for path in written} == {0o600}
    token = (folder / "client-0.token").read_text().strip()
    assert len(token) >= 40
    assert all(token not in path.read_text() for path in written if path.suffix != ".token")
    with pytest.raises(ConfigError, match="has a CA already"):
        make_certificates(folder, 1, ["127.0.0.1"], 10)


def test_a_secret_that_others_can_read_is_complained_of(
    secrets: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loose = tmp_path / "loose.tokens"
    loose.write_bytes((secrets / "server.tokens").read_bytes())
    loose.chmod(0o644)
    own = {"tls_cert": str(secrets / "server.crt"), "tls_key": str(secrets / "server.key")}
    serve(**own, token_file=str(loose)).stop()
    assert f"{loose} can be read by others on this machine; chmod 600 {loose}" in caplog.text


def test_no_thread_is_left_by_a_run(secrets: Path) -> None:
    before = threading.active_count()
    server = serve(secrets=str(secrets))
    clients = [join(server, client, files(secrets, client), 5.0) for client in range(2)]
    for client in clients:
        client.leave()
    server.stop()
    deadline = datetime.now(UTC) + timedelta(seconds=8)
    while threading.active_count() > before and datetime.now(UTC) < deadline:
        threading.Event().wait(0.05)
    assert threading.active_count() <= before
