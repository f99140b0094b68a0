"""An overlay between namespaces: who gets in, what gets through, and what becomes of it when one dies."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from splitfl.transport.security.certificates import make_certificates
from testbed.namespaces import Namespace, veth
from tests.testbed.waiting import until

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
ROOT = str(Path(__file__).parents[2])
HUB = "10.1.0.1:7000"
SEND = "import socket; socket.create_connection(({host!r}, 9), 10).sendall({data!r})"
TAKE = """
import socket
with socket.create_server(({host!r}, 9)) as listener:
    print('listening', flush=True)
    peer, _ = listener.accept()
    with peer:
        print(peer.recv(100).decode(), flush=True)
"""
COUNT = """
import itertools, socket, time
with socket.create_connection(('10.99.0.3', 9), 10) as peer:
    for number in itertools.count():
        peer.sendall(b'%d\\n' % number)
        time.sleep(0.05)
"""
HEAR = """
import socket
with socket.create_server(('10.99.0.3', 9)) as listener:
    print('listening', flush=True)
    for line in listener.accept()[0].makefile():
        print(line, end='', flush=True)
"""
LIAR = """
import socket, sys, time
from testbed.overlay import frames
from testbed.overlay.stream import Stream
from testbed.overlay.tls import client_context
folder, packet = sys.argv[1], bytes.fromhex(sys.argv[2])
context = client_context(folder + '/client-0.crt', folder + '/client-0.key', folder + '/ca.crt')
stream = Stream(context.wrap_socket(socket.create_connection(('10.1.0.1', 7000)), server_hostname='10.1.0.1'))
token = open(folder + '/client-0.token').read().strip()
hello = frames.Hello(name='client-0', session='s', token=token)
stream.send_all(frames.encode_control(frames.HELLO, hello), 5)
print(stream.first(5))
stream.send_all(frames.frame(frames.PACKET, packet), 5)
time.sleep(60)
"""
STRAY = "4500001c000000000011000" + "0" + "0a63004d" + "0a630001" + "00" * 8
IPV6 = "6" + "0" * 79


class Site:
    """A hub and two clients, each in a namespace of its own, at 10.1.0.1, .2 and .3."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.folder, self._stack = folder, stack
        self.secrets = folder / "secrets"
        make_certificates(self.secrets, 2, ["10.1.0.1"], days=1)
        self.nodes = [stack.enter_context(Namespace(tag)) for tag in ("hub", "first", "second")]
        veth(self.nodes[0], "eth0", "10.1.0.1/30", self.nodes[1], "eth0", "10.1.0.2/30")
        veth(self.nodes[0], "eth1", "10.1.0.5/30", self.nodes[2], "eth0", "10.1.0.6/30")
        self.nodes[2].run(["ip", "route", "add", "10.1.0.1/32", "via", "10.1.0.5"], 10)

    def start(self, node: int, output: str, words: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
        """Starts a program in a node; what it says goes to that file."""
        file = self._stack.enter_context((self.folder / output).open("wb"))
        process: subprocess.Popen[bytes] = self.nodes[node].popen(
            [sys.executable, *words],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        self._stack.callback(_end, process)
        return process

    def hub(self, output: str = "hub", *words: str | Path) -> "subprocess.Popen[bytes]":
        started = self.start(0, output, [*_overlay("hub", "--listen", HUB), *(words or self._own())])
        until(lambda: "10.99.0.1" in self.nodes[0].run(["ip", "-br", "address"], 10))
        return started

    def join(
        self, node: int, *words: str | Path, name: str = "", output: str = ""
    ) -> "subprocess.Popen[bytes]":
        who = name or f"client-{node - 1}"
        own = words or self._own()
        return self.start(node, output or f"join-{node}", [*_overlay("join", HUB, "--name", who), *own])

    def said(self, output: str) -> str:
        return (self.folder / output).read_text()

    def is_in(self, node: int) -> None:
        until(lambda: f"10.99.0.{node + 1}" in self.nodes[node].run(["ip", "-br", "address"], 10))

    def carries(self, source: int, target: int, data: str) -> None:
        """Sends words over TCP from one node to another's address on the overlay."""
        address, output = f"10.99.0.{target + 1}", f"took-{data}"
        taker = self.start(target, output, ["-c", TAKE.format(host=address)])
        until(lambda: "listening" in self.said(output))
        self.nodes[source].run([sys.executable, "-c", SEND.format(host=address, data=data.encode())], 20)
        assert taker.wait(20) == 0
        assert self.said(output).split() == ["listening", data]

    def _own(self) -> list[str | Path]:
        return ["--secrets", self.secrets]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack, tmp_path)


def test_clients_reach_the_hub_and_each_other(site: Site) -> None:
    site.hub()
    for node in (1, 2):
        site.join(node)
        site.is_in(node)
    site.carries(1, 0, "up")
    site.carries(0, 2, "down")
    site.carries(1, 2, "across")
    mtus = [node.run(["ip", "link", "show", "splitfl0"], 10) for node in site.nodes]
    assert all("mtu 16384" in told for told in mtus)


def test_a_hub_that_dies_is_come_back_to_on_the_same_interface(site: Site) -> None:
    hub = site.hub()
    site.join(1)
    site.is_in(1)
    before = site.nodes[1].run(["ip", "link", "show", "splitfl0"], 10)
    hub.send_signal(signal.SIGKILL)
    until(lambda: "no connection to the hub" in site.said("join-1"))
    assert "10.99.0.1" not in site.nodes[0].run(["ip", "-br", "address"], 10)
    site.hub("hub-again")
    until(lambda: site.said("join-1").count("the hub is 10.99.0.1") == 2)
    assert site.nodes[1].run(["ip", "link", "show", "splitfl0"], 10) == before
    site.carries(1, 0, "again")


def test_connections_survive_a_restart_of_the_hub(site: Site) -> None:
    hub = site.hub()
    for node in (1, 2):
        site.join(node)
        site.is_in(node)
    site.start(2, "heard", ["-c", HEAR])
    until(lambda: "listening" in site.said("heard"))
    site.start(1, "counted", ["-c", COUNT])
    until(lambda: len(site.said("heard").splitlines()) > 5)
    hub.kill()
    until(lambda: all("no connection to the hub" in site.said(f"join-{node}") for node in (1, 2)))
    so_far = len(site.said("heard").splitlines())
    site.hub("hub-again")
    until(lambda: len(site.said("heard").splitlines()) > so_far + 20)
    heard = site.said("heard").rpartition("\n")[0].splitlines()[1:]
    assert [int(line) for line in heard] == list(range(len(heard)))


@pytest.mark.parametrize(
    ("changes", "code", "complaint"),
    [
        ({"token": "client-1.token"}, 2, "refused: wrong token for 'client-0'"),
        ({"name": "client-1", "token": "client-1.token"}, 2, "its certificate is for 'client-0'"),
        ({"certificate": ""}, 2, "refused in the handshake"),
        ({"name": "a\x1b[2Jb"}, 2, "a name must have 1 to 64 letters"),
        ({"authority": "other"}, 2, "the hub's certificate is not trusted"),
    ],
)
def test_an_unauthorised_client_gets_the_reason(
    changes: dict[str, str], code: int, complaint: str, site: Site
) -> None:
    site.hub()
    own, name = site.secrets, changes.get("name", "client-0")
    make_certificates(site.folder / "other", 1, ["10.1.0.1"], days=1)
    authority = (site.folder / "other" if changes.get("authority") else own) / "ca.crt"
    words: list[str | Path] = [
        "--tls-ca",
        authority,
        "--token-file",
        own / changes.get("token", "client-0.token"),
    ]
    if changes.get("certificate", "client-0"):
        words += ["--tls-cert", own / "client-0.crt", "--tls-key", own / "client-0.key"]
    stranger = site.join(1, *words, name=name, output="stranger")
    assert stranger.wait(30) == code
    assert complaint in site.said("stranger").splitlines()[-1]
    site.join(2)
    until(lambda: "the hub is 10.99.0.1" in site.said("join-2"))


def test_a_name_is_one_clients_at_a_time(site: Site) -> None:
    site.hub()
    first = site.join(1, name="client-0")
    site.is_in(1)
    site.join(2, name="client-0", output="twin")
    until(lambda: "another 'client-0' is connected" in site.said("twin"))
    first.kill()
    until(lambda: "10.99.0.2" in site.nodes[2].run(["ip", "-br", "address"], 10))


@pytest.mark.parametrize(
    ("packet", "complaint"),
    [
        (STRAY, "client-0: dropped 1 packets with other source addresses than its own"),
        (IPV6, "client-0 (10.99.0.2) disconnected: a packet that is not IPv4"),
    ],
)
def test_a_member_that_lies_is_not_believed(packet: str, complaint: str, site: Site) -> None:
    site.hub()
    before = _taken(site)
    site.start(1, "liar", ["-c", LIAR, site.secrets, packet])
    until(lambda: complaint in site.said("hub"))
    assert _taken(site) == before
    site.join(2)
    until(lambda: "the hub is 10.99.0.1" in site.said("join-2"))


def test_other_protocols_neither_end_nor_block_the_hub(site: Site) -> None:
    site.hub()
    noise = "import os, socket\nends = [socket.create_connection(('10.1.0.1', 7000)) for _ in range(40)]\n"
    noise += "for end in ends[:20]:\n    end.sendall(os.urandom(3000))\n" + "input()"
    site.start(1, "noise", ["-c", noise.replace("input()", "import time; time.sleep(60)")])
    until(lambda: "refused" in site.said("hub"))
    site.join(2)
    until(lambda: "10.99.0.2" in site.nodes[2].run(["ip", "-br", "address"], 10), 40.0)
    assert "Traceback" not in site.said("hub")


def test_a_port_in_use_and_an_unreadable_key_are_reported_by_the_hub(site: Site) -> None:
    with site.nodes[0].inside(), socket.create_server(("10.1.0.1", 7000)):
        taken = site.start(0, "taken", [*_overlay("hub", "--listen", HUB), "--secrets", site.secrets])
        assert taken.wait(30) == 2
    assert "cannot listen on 10.1.0.1:7000: Address already in use" in site.said("taken")
    words = ["--tls-cert", site.secrets / "server.crt", "--tls-key", site.secrets / "nothing.key"]
    broken = site.start(0, "broken", [*_overlay("hub", "--listen", HUB), *words])
    assert broken.wait(30) == 2
    assert "nothing.key: No such file or directory" in site.said("broken")


def _overlay(*words: str | Path) -> list[str | Path]:
    return ["-P", "-m", "experiments", "testbed", "overlay", *words]


def _taken(site: Site) -> str:
    """How many packets the hub's own interface was given."""
    return site.nodes[0].run(["cat", "/sys/class/net/splitfl0/statistics/rx_packets"], 10)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()


@pytest.mark.parametrize(
    ("network", "held"),
    [
        ("10.1.0.0/24", "10.1.0.0/30 on eth0"),
        ("10.1.0.4/30", "10.1.0.4/30 on eth1"),
        ("10.0.0.0/8", "10.1.0.0/30 on eth0"),
        ("10.77.5.0/24", "10.77.0.0/16 on eth0"),
        ("127.0.0.0/24", "127.0.0.0/8 on lo"),
    ],
)
def test_a_hub_does_not_take_a_network_that_its_machine_uses(network: str, held: str, site: Site) -> None:
    site.nodes[0].run(["ip", "route", "add", "10.77.0.0/16", "via", "10.1.0.2"], 10)
    words = ["hub", "--listen", HUB, "--network", network]
    refused = site.start(0, "refused", [*_overlay(*words), "--secrets", site.secrets])
    assert refused.wait(30) == 2
    expected = f"the overlay's network {network} is in use on this machine, which has {held}; choose another"
    assert expected in site.said("refused")
    assert "splitfl" not in site.nodes[0].run(["ip", "-br", "address"], 10)


def test_a_client_does_not_take_a_network_that_its_machine_uses(site: Site) -> None:
    site.nodes[1].run(["ip", "route", "add", "10.99.0.0/16", "via", "10.1.0.1"], 10)
    site.nodes[0].run(["ip", "route", "add", "0.0.0.0/1", "via", "10.1.0.2"], 10)  # as a VPN does
    site.hub()
    refused = site.join(1)
    assert refused.wait(30) == 2
    assert "10.99.0.0/24 is in use on this machine, which has 10.99.0.0/16 on eth0" in site.said("join-1")
