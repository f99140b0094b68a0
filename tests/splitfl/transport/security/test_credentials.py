"""Files that prove who is who: what is wrong with one is said by its name, before anybody connects."""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from splitfl.config import TransportConfig
from splitfl.core.errors import ConfigError
from splitfl.transport.grpc.client import GrpcConnector
from splitfl.transport.grpc.spec import GrpcSettings
from splitfl.transport.mqtt.broker import Broker
from splitfl.transport.registry import transport
from splitfl.transport.security.certificates import make_certificates
from splitfl.transport.security.credentials import (
    Credentials,
    TlsFiles,
    read_authorities,
    read_pair,
    read_text,
)
from testbed.overlay.tls import client_context


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_certificates(folder, 2, ["127.0.0.1"], 10)
    return folder


def encrypted(folder: Path) -> None:
    key = load_pem_private_key((folder / "client-0.key").read_bytes(), None)
    held = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (folder / "client-0.key").write_bytes(held)


def of_another(folder: Path) -> None:
    shutil.copy(folder / "client-1.key", folder / "client-0.key")


def no_key(folder: Path) -> None:
    (folder / "client-0.key").write_text("no key at all\n")


def bad_authority(folder: Path) -> None:
    (folder / "ca.crt").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


WRONG = [
    (encrypted, "the key .*client-0.key is encrypted, and nobody is there to type its password"),
    (of_another, "the key .*client-0.key does not belong to the certificate .*client-0.crt"),
    (no_key, "client-0.key is no private key in PEM"),
    (bad_authority, "ca.crt is no certificate"),
]


@pytest.mark.parametrize(("spoil", "reason"), WRONG)
def test_a_file_that_is_no_good_is_named_by_every_transport(
    spoil: Callable[[Path], None], reason: str, made: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(made, tmp_path / "spoilt")
    spoil(folder)
    own = Credentials.in_folder(folder, "client-0")
    with pytest.raises(ConfigError, match=reason):
        GrpcConnector("127.0.0.1:1", own)
    with pytest.raises(ConfigError, match=reason):
        Broker(host="127.0.0.1", port=1, topic="t", credentials=own).new_client()
    with pytest.raises(ConfigError, match=reason):
        client_context(own.cert, own.key, own.ca)


def test_a_server_with_an_encrypted_key_does_not_listen(made: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(made, tmp_path / "spoilt")
    encrypted(folder)
    tls = TlsFiles(tls_cert=str(folder / "client-0.crt"), tls_key=str(folder / "client-0.key"))
    with pytest.raises(ConfigError, match=r"client-0.key is encrypted"):
        transport("grpc").serve(TransportConfig(name="grpc", settings=(GrpcSettings(tls=tls),)), 1)


def test_a_pair_that_is_good_is_given_as_it_is(made: Path) -> None:
    key, certificate = read_pair(str(made / "server.crt"), str(made / "server.key"))
    assert key == (made / "server.key").read_bytes()
    assert certificate == (made / "server.crt").read_bytes()


def test_one_authority_that_is_valid_is_enough(made: Path, tmp_path: Path) -> None:
    make_certificates(tmp_path / "old", 1, ["127.0.0.1"], 1, datetime(2020, 1, 1, tzinfo=UTC))
    old, ours = (tmp_path / "old" / "ca.crt").read_bytes(), (made / "ca.crt").read_bytes()
    (tmp_path / "both.crt").write_bytes(old + ours)
    assert read_authorities(str(tmp_path / "both.crt")) == old + ours
    (tmp_path / "old.crt").write_bytes(old)
    with pytest.raises(ConfigError, match=r"old.crt is valid from 2019-12-31 to 2020-01-02, not today"):
        read_authorities(str(tmp_path / "old.crt"))


def test_a_password_that_is_not_utf_8_is_named_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes("p\u00e4ssword\n".encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=rf"{path} must be text in UTF-8, got the byte 0xe4 at 1; `iconv"):
        read_text(str(path))
    broker = Broker(
        host="h", port=1, topic="t", credentials=Credentials(), user="me", password_file=str(path)
    )
    with pytest.raises(ConfigError, match=r"must be text in UTF-8"):
        broker.new_client()
    path.write_bytes("\ufeffp\u00e4ssword\r\n".encode())
    assert read_text(str(path)) == "p\u00e4ssword"


def test_a_password_without_a_user_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the password in pw is for a user of the broker: name one"):
        Broker(host="h", port=1, topic="t", credentials=Credentials(), password_file="pw")


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        ("10.0.0.1:29500", r"without its port: give --host 10\.0\.0\.1, got '10\.0\.0\.1:29500'"),
        ("gpu:29500", "without its port: give --host gpu, got 'gpu:29500'"),
        ("[::1]:29500", "without its port: give --host ::1, got"),
        ("[::1]", "without brackets: give --host ::1, got"),
        ("10.0.0.300", "neither an address nor a name"),
        ("https://gpu", "neither an address nor a name"),
        ("gpu lab", "neither an address nor a name"),
        ("", "neither an address nor a name"),
        ("a" * 300, "neither an address nor a name"),
        ("gpu,lab", "neither an address nor a name"),
    ],
)
def test_an_invalid_host_gets_no_certificate_and_no_file(host: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=reason):
        make_certificates(tmp_path / "new", 1, ["127.0.0.1", host], 10)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("host", ["gpu", "gpu-1.lab.example", "*.lab.example", "::1", "fd00::2", "node_7"])
def test_names_and_addresses_are_certified(host: str, tmp_path: Path) -> None:
    assert make_certificates(tmp_path / "new", 1, [host], 10)


@pytest.mark.parametrize("clients", [0, -1, 10**9])
def test_a_number_of_clients_that_no_server_has_is_refused(clients: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"clients must lie in 1\.\.10000, got {clients}"):
        make_certificates(tmp_path / "new", clients, ["gpu"], 10)
    assert not (tmp_path / "new").exists()


def test_no_certificate_outlasts_the_last_year_there_is(tmp_path: Path) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    for days in (3_000_000, 0, -1, 10**12):
        with pytest.raises(ConfigError, match=rf"days must lie in 1\.\.2912442, .*, got {days}"):
            make_certificates(tmp_path / "new", 1, ["gpu"], days, begin)
    assert make_certificates(tmp_path / "new", 1, ["gpu"], 2_912_442, begin)
