"""The loop over real descriptors; socket pairs stand where TUN devices would."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from channel.core.clock import WallClock
from channel.core.errors import BadParameter, NoDevice
from channel.links.fixed import Direction, FixedLink
from channel.live.decider import LinkDecider
from channel.live.emulation import Emulation, measured
from channel.live.forwarder import Forwarder
from channel.live.switch import DeliveryOrder
from channel.live.tun import open_tun
from tests.channel.live.packets import CLIENTS, SERVER, mark_of, packet


class Ends:
    """A forwarder at work, and the kernel's side of its three devices."""

    def __init__(self, stack: ExitStack, emulation: Emulation) -> None:
        pairs = [socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(3)]
        for pair in pairs:
            for one in pair:
                stack.enter_context(one)
            pair[0].setblocking(False)
            pair[1].settimeout(10.0)
        self.server, *self.clients = (pair[1] for pair in pairs)
        self._lifeline = os.pipe()
        self.switch = emulation.switch()
        devices = [pair[0].fileno() for pair in pairs]
        self.forwarder = Forwarder(self.switch, devices, self._lifeline[0], WallClock(), emulation.mtu_bytes)
        self._thread = threading.Thread(target=self.forwarder.run)
        self._thread.start()
        stack.callback(self.end)

    def end(self) -> None:
        if self._thread.is_alive():
            os.close(self._lifeline[1])
            self._thread.join(10.0)
            os.close(self._lifeline[0])
        assert not self._thread.is_alive()


@pytest.fixture
def ends() -> Iterator[Ends]:
    way = Direction(rate_bps=100e6, delay_s=0.002, loss_rate=0.1)
    link = FixedLink(seed=4, up=way, down=way, max_tries=1)
    with ExitStack() as stack:
        yield Ends(stack, Emulation(air=link, clients=2, order=DeliveryOrder(seed=4)))


def test_real_time_and_virtual_time_lose_the_same_packets(ends: Ends) -> None:
    for number in range(100):
        ends.clients[1].send(packet(CLIENTS[1], SERVER, mark=number))
    link = FixedLink(seed=4, up=Direction(loss_rate=0.1), max_tries=1)
    decider = LinkDecider(link, 2, 10**9)
    for _ in range(100):
        decider.offer(1, "up", 1000, 0.0)
    wanted = [outcome.number for outcome in decider.decided(0.0) if outcome.arrived]
    assert 70 < len(wanted) < 100
    assert [mark_of(ends.server.recv(2000)) for _ in wanted] == wanted
    ends.end()
    assert ends.switch.counts[1, "up"].lost == 100 - len(wanted)


def test_packets_cross_in_both_directions_and_are_counted(ends: Ends) -> None:
    for number in range(20):
        ends.server.send(packet(SERVER, CLIENTS[number % 2], mark=number))
        ends.clients[0].send(packet(CLIENTS[0], SERVER, mark=number))
    mark_of(ends.server.recv(2000))
    for client in ends.clients:
        client.recv(2000)
    ends.end()
    rows = measured(ends.switch, ends.forwarder)["links"]
    offered = {(row["client"], row["direction"]): row["offered"] for row in rows}
    assert offered == {(0, "up"): 20, (0, "down"): 10, (1, "up"): 0, (1, "down"): 10}
    assert ends.forwarder.lateness.figures().packets >= 3


def test_a_closed_lifeline_ends_it_at_once(ends: Ends) -> None:
    ends.end()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mtu_bytes": 500}, "mtu_bytes of a live link must be a whole number of at least 576, got 500"),
        (
            {"queue_bytes": 1499},
            "queue_bytes of a live link must be a whole number of at least 1500, got 1499",
        ),
    ],
)
def test_packets_too_small_for_ip_and_too_large_for_the_queue_are_refused(
    settings: dict[str, int], message: str
) -> None:
    with pytest.raises(BadParameter, match=message):
        Emulation(air=FixedLink(seed=0), clients=1, order=DeliveryOrder(seed=0), **settings)


@pytest.mark.parametrize("name", ["", "a-name-of-16-byte"])
def test_a_name_that_no_device_can_have_is_refused(name: str) -> None:
    with pytest.raises(BadParameter, match="a device's name must have 1 to 15 bytes"):
        open_tun(name)


@pytest.mark.skipif(
    os.geteuid() == 0 and Path("/dev/net/tun").exists(), reason="this process may have a TUN device"
)
def test_without_tun_the_error_names_the_missing_part() -> None:
    with pytest.raises(NoDevice, match="cannot open /dev/net/tun: "):
        open_tun("air0")
