"""Which proxy is in force, as gRPC has it."""

import pytest

from splitfl.transport.base.interfaces import addresses
from splitfl.transport.base.proxies import Proxy, is_here, proxy_towards

NAMED = {"http_proxy": "http://proxy.invalid:3128"}


def test_the_first_variable_that_grpc_reads_is_the_one_in_force() -> None:
    every = {**NAMED, "https_proxy": "http://secure.invalid:1", "grpc_proxy": "http://own.invalid:2"}
    assert proxy_towards("far.invalid", every) == Proxy("grpc_proxy", "own.invalid:2")
    assert proxy_towards("far.invalid", NAMED) == Proxy("http_proxy", "proxy.invalid:3128")
    assert proxy_towards("far.invalid", {}) is None


def test_a_password_in_a_proxy_variable_is_not_printed() -> None:
    found = proxy_towards("far.invalid", {"http_proxy": "http://me:secret@proxy.invalid:3128"})
    assert found is not None
    assert "secret" not in str(found)


@pytest.mark.parametrize(
    ("host", "exceptions", "is_direct"),
    [
        ("lab.invalid", "lab.invalid", True),
        ("gpu.lab.invalid", "other.invalid, .lab.invalid", True),
        ("192.0.2.7", "192.0.2.0/24", True),
        ("192.0.2.7", "localhost", False),
        ("gpu.invalid", "192.0.2.0/24,", False),
    ],
)
def test_addresses_in_no_proxy_bypass_the_proxy(host: str, exceptions: str, is_direct: bool) -> None:
    assert (proxy_towards(host, {**NAMED, "no_proxy": exceptions}) is None) is is_direct


def test_this_machine_is_never_behind_a_proxy() -> None:
    own = [one for held in addresses().values() for one in held]
    for host in ("127.0.0.1", "127.8.8.8", "::1", "localhost", "some.localhost", *own):
        assert is_here(host), host
        assert proxy_towards(host, {**NAMED, "no_proxy": ""}) is None
    assert not is_here("192.0.2.7")
    assert not is_here("no.such.host.invalid")
