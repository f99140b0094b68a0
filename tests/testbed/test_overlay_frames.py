"""An overlay's frames, tokens, addresses and queue, without a network of its own."""

import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitfl.core.errors import ConfigError, PeerLost, Timeout, WireError
from splitfl.transport.security.certificates import make_certificates
from testbed.overlay import frames
from testbed.overlay.addresses import Addresses
from testbed.overlay.endpoints import network_of
from testbed.overlay.hub import Hub
from testbed.overlay.stream import QUEUE_BYTES, Stream
from testbed.overlay.tls import HubTokens, client_context, server_context
from tests.testbed.waiting import until

PACKET = b"\x45" + bytes(1399)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    make_certificates(folder, 2, ["127.0.0.1"], days=1)
    return folder


@pytest.fixture
def ends(files: Path) -> Iterator[tuple[Stream, ssl.SSLSocket]]:
    """A stream, and the other end of its connection as a plain socket."""
    server = server_context(str(files / "server.crt"), str(files / "server.key"), "")
    client = client_context("", "", str(files / "ca.crt"))
    near, far = socket.create_server(("127.0.0.1", 0)), socket.socket()
    with near, far:
        far.connect(near.getsockname())
        accepted, _ = near.accept()
        wrapped: list[ssl.SSLSocket] = []
        shake = threading.Thread(
            target=lambda: wrapped.append(server.wrap_socket(accepted, server_side=True))
        )
        shake.start()
        stream = Stream(client.wrap_socket(far, server_hostname="127.0.0.1"))
        shake.join()
        with closing(stream), wrapped[0]:
            yield stream, wrapped[0]


def test_packets_arrive_complete_and_in_order_for_any_segmentation(
    ends: tuple[Stream, ssl.SSLSocket],
) -> None:
    stream, peer = ends
    stream.begin(b"")
    sent = [b"\x45" + bytes([number]) * (19 + 97 * number) for number in range(200)]
    data = b"".join(frames.frame(frames.PACKET, packet) for packet in sent)
    writer = threading.Thread(
        target=lambda: [peer.send(data[at : at + 777]) for at in range(0, len(data), 777)]
    )
    writer.start()
    got: list[bytes] = []
    while len(got) < len(sent):
        got += [bytes(payload) for kind, payload in stream.frames()]
    writer.join()
    assert got == sent


def test_a_peer_that_does_not_read_costs_a_queue_and_no_more(ends: tuple[Stream, ssl.SSLSocket]) -> None:
    stream, _ = ends
    stream.begin(b"")
    for _ in range(3 * QUEUE_BYTES // len(PACKET)):
        stream.put(PACKET)
        stream.flush()
    assert stream.dropped > 0
    assert stream.is_blocked
    assert len(stream._out) <= QUEUE_BYTES


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "version 71 of the overlay's protocol, this side 1"),
        (frames.HEADER.pack(1, 9, 0), "unknown kind 9"),
        (frames.HEADER.pack(1, frames.HELLO, 60000), "a control message of 60000 bytes, at most 4096"),
        (frames.HEADER.pack(1, frames.PACKET, 3) + b"abc", "3 bytes is not an IPv4 packet"),
        (frames.frame(frames.HELLO, b"{}"), "kind 1 after the handshake"),
    ],
)
def test_invalid_frames_are_refused(said: bytes, complaint: str, ends: tuple[Stream, ssl.SSLSocket]) -> None:
    stream, peer = ends
    stream.begin(b"")
    peer.send(said)
    with pytest.raises(WireError, match=complaint):
        until(lambda: bool(list(stream.frames())))


def test_a_silent_or_closed_peer_is_not_waited_for(ends: tuple[Stream, ssl.SSLSocket]) -> None:
    stream, peer = ends
    with pytest.raises(Timeout, match=r"no answer from the peer within 0\.05 s"):
        stream.first(0.05)
    peer.close()
    with pytest.raises(PeerLost):
        stream.first(5.0)


@given(st.binary(max_size=200))
def test_words_of_any_bytes_are_read_or_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        frames.decode_control(frames.Hello, payload)


@given(st.text(max_size=50), st.text(max_size=50))
def test_control_messages_survive_encoding(name: str, token: str) -> None:
    hello = frames.Hello(name=name, session="s", token=token, address="")
    framed = frames.encode_control(frames.HELLO, hello)
    assert frames.header(framed, 0) == (frames.HELLO, len(framed) - frames.HEADER.size)
    assert frames.decode_control(frames.Hello, framed[frames.HEADER.size :]) == hello


def test_a_welcome_with_nonsense_is_refused() -> None:
    with pytest.raises(WireError, match=r"mtu must lie in 576\.\.65535, got 7"):
        frames.Welcome(address="10.0.0.2/24", hub="10.0.0.1", mtu=7)
    with pytest.raises(WireError, match="bad address"):
        frames.Welcome(address="10.0.0.2/99", hub="10.0.0.1", mtu=1500)


def test_clients_keep_their_address_and_a_full_network_has_none() -> None:
    addresses = Addresses(ipaddress.IPv4Network("10.9.0.0/29"))
    assert str(addresses.of("a", "")) == "10.9.0.2"
    assert str(addresses.of("b", "10.9.0.5")) == "10.9.0.5"
    assert str(addresses.of("c", "10.9.0.5")) == "10.9.0.3"
    assert str(addresses.of("a", "10.9.0.6")) == "10.9.0.2"
    assert [str(addresses.of(name, "10.9.0.1")) for name in "de"] == ["10.9.0.4", "10.9.0.6"]
    assert addresses.of("f", "") is None


def test_a_token_is_good_for_its_own_name_and_a_shared_one_for_all(files: Path, tmp_path: Path) -> None:
    tokens = HubTokens(str(files / "server.tokens"))
    own = (files / "client-1.token").read_text().strip()
    assert tokens.admits("client-1", own)
    assert not tokens.admits("client-0", own)
    assert not tokens.admits("client-1", "")
    assert not tokens.admits("stranger", own)
    shared = tmp_path / "shared"
    shared.write_text("a-secret-of-everybody\n")
    shared.chmod(0o600)
    assert HubTokens(str(shared)).admits("stranger", "a-secret-of-everybody")


@pytest.mark.parametrize(
    ("text", "complaint"), [("", "has no token"), ("short\n", ":1 must be a client's number")]
)
def test_a_bad_file_of_tokens_is_refused(text: str, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match=complaint):
        HubTokens(str(path))


@pytest.mark.parametrize("text", ["10.99.0.0", "10.99.0.1/24", "10.99.0.0/31", "fd00::/64"])
def test_a_bad_network_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="network"):
        network_of(text)


def test_a_hub_without_authentication_is_refused(files: Path) -> None:
    context = server_context(str(files / "server.crt"), str(files / "server.key"), "")
    with socket.socket() as listener, pytest.raises(ConfigError, match="needs a token file, or an authority"):
        Hub(listener, network_of("10.99.0.0/24"), context, None, 1500, print)
