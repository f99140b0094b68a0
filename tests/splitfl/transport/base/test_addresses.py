"""What an address is, over IPv4 and IPv6, and who takes which."""

import socket

import pytest

from splitfl.config import TransportConfig
from splitfl.core.errors import ConfigError
from splitfl.transport.base import interfaces
from splitfl.transport.base.addresses import joined, parse_address, refuse_unknown
from splitfl.transport.base.interfaces import listening_address, public_address
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import transport
from testbed.inventory import load as inventory
from testbed.overlay.endpoints import listener_at
from tests.splitfl.transport.ipv6 import has_ipv6

IPV4_ONLY = "takes IPv4 addresses only, got '::1'; IPv6 is for the transports grpc and mqtt"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("gpu:29500", "gpu", 29500),
        ("10.0.0.1:1", "10.0.0.1", 1),
        ("[::1]:29500", "::1", 29500),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
    ],
)
def test_an_address_is_taken_apart_and_put_together_again(text: str, host: str, port: int) -> None:
    assert parse_address(text) == (host, port)
    assert joined(host, port) == text


@pytest.mark.parametrize("text", ["::1", "::1:29500", "fe80::1%eth0:29500", "2001:db8::7"])
def test_an_ipv6_address_without_brackets_is_refused_with_the_right_form(text: str) -> None:
    with pytest.raises(ConfigError, match=r"an IPv6 address must be in brackets, as in \[::1\]:29500, got "):
        parse_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "gpu",
        "gpu:",
        ":29500",
        "gpu:0",
        "gpu:65536",
        "gpu:" + "9" * 5000,
        "gpu:x",
        "[gpu]:1",
        "a:b:1",
        "a b:1",
    ],
)
def test_an_invalid_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"a server's address must be HOST:PORT|neither a host's name nor"):
        parse_address(text)


def test_a_hub_listens_over_ipv6_too() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as free:
        port = free.getsockname()[1]
    with listener_at(f"[::1]:{port}") as listener:
        assert listener.getsockname()[:2] == ("::1", port)


def test_any_free_port_is_one_where_that_makes_sense() -> None:
    assert parse_address("127.0.0.1:0", least_port=0) == ("127.0.0.1", 0)


def test_an_ipv4_only_transport_refuses_ipv6_in_one_sentence() -> None:
    with pytest.raises(ConfigError, match=f"PyTorch RPC {IPV4_ONLY}"):
        transport("rpc").serve(TransportConfig(name="rpc", host="::1"), 1)
    with pytest.raises(ConfigError, match=f"PyTorch RPC {IPV4_ONLY}"):
        transport("rpc").join(Joining(address="[::1]:29500", client=0, timeout_s=1.0))
    with pytest.raises(ConfigError, match=f"the doctor {IPV4_ONLY}"):
        inventory.of_address("[::1]:29500")
    with pytest.raises(ConfigError, match=f"the doctor: nodes.a.address {IPV4_ONLY}"):
        inventory.read({"server": "a", "nodes": {"a": {"address": "::1"}, "b": {}}})


@pytest.mark.parametrize("host", ["::", "[::]", "0.0.0.0"])
def test_every_address_at_once_cannot_be_published(host: str) -> None:
    with pytest.raises(ConfigError, match=r"which other machines cannot reach; use one of"):
        listening_address(host, "gRPC", takes_ipv6=True)


def test_an_ipv6_address_of_another_machine_is_refused() -> None:
    if not has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    with pytest.raises(ConfigError, match=r"no interface of this machine has the address 2001:db8::7"):
        listening_address("2001:db8::7", "gRPC", takes_ipv6=True)


def test_a_machine_with_ipv6_alone_is_asked_for_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_ipv6(*families: int) -> dict[str, list[str]]:
        return {"eth0": ["2001:db8::7", "fe80::1%eth0"]} if families else {}

    monkeypatch.setattr(interfaces, "addresses", only_ipv6)
    with pytest.raises(ConfigError, match=r"has no IPv4 address; give one of 2001:db8::7 with --host"):
        public_address()


def test_an_unresolvable_host_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"the host 'no.such.host.invalid' has no address"):
        refuse_unknown("no.such.host.invalid")
    refuse_unknown("127.0.0.1")
