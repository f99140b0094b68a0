"""IP between a TUN interface and a radio: an ARQ link to every other node, over the packet modem."""

from collections.abc import Callable
from typing import Any, NoReturn, Protocol

import numpy as np

from channel.core.clock import Clock, WallClock
from channel.waveform.arq import ArqLink
from channel.waveform.header import Header
from channel.waveform.received import Received
from testbed.radio.bridge_settings import BridgeSettings
from testbed.radio.link_monitor import LinkMonitor
from testbed.radio.modem import PacketModem

_IPV4 = 4
_SESSIONS = 15


class PacketDevice(Protocol):
    """What gives and takes IP packets: a `Tun`."""

    def packets(self) -> Any:
        """The packets that wait, as an iterable of bytes."""
        ...

    def write(self, packet: bytes) -> bool:
        """False for a packet that is refused."""
        ...


class Bridge:
    """Carries IP packets whose destination is the address of another node; others are counted and dropped."""

    def __init__(
        self,
        settings: BridgeSettings,
        modem: PacketModem,
        device: PacketDevice,
        session: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`session` distinguishes this bridge from one before a restart; by default it is random.

        `clock` tells how long samples took, by default the machine's.
        """
        own, self._modem, self._device = settings.node, modem, device
        drawn = 1 + int(np.random.default_rng().integers(_SESSIONS)) if session is None else session
        self._node_of = settings.node_of()
        self.links = {
            node: ArqLink(source=own, target=node, timeout_s=modem.timeout_s, session=drawn)
            for node in sorted(self._node_of.values())
        }
        counters = {node: link.counters for node, link in self.links.items()}
        self.monitor = LinkMonitor(modem, counters, settings.report_s, clock or WallClock())
        self.unroutable = self.refused = 0
        self._own, self._turn = own, 0

    def run(self, every_interval: Callable[[dict[str, Any]], None]) -> NoReturn:
        """Carries packets for ever, and hands out a row for each far node and interval.

        Raises RadioTimeout if the radio gives no samples any more.
        """
        while True:
            self.step()
            if self.monitor.is_due:
                for row in self.monitor.interval():
                    every_interval(row)

    def final(self) -> dict[str, Any]:
        """What it has counted so far."""
        return {**self.monitor.final(), "unroutable": self.unroutable, "refused": self.refused}

    def step(self) -> None:
        """Carries what there is, during a block of samples."""
        for packet in self._device.packets():
            self._route(packet)
        self._modem.send_due(self._following)
        for received in self._modem.receive():
            self._take(received)

    def _route(self, packet: bytes) -> None:
        node = self._node_of.get(packet[16:20]) if packet and packet[0] >> 4 == _IPV4 else None
        if node is None:
            self.unroutable += 1
        else:
            self.links[node].offer(packet)

    def _following(self, begin_s: float) -> tuple[Header, bytes] | None:
        """The next packet of a link; the links take turns."""
        links = list(self.links.values())
        for index in range(len(links)):
            link = links[(self._turn + index) % len(links)]
            if (packet := link.next(begin_s)) is not None:
                self._turn += index + 1
                return packet
        return None

    def _take(self, received: Received) -> None:
        header = received.header
        link = self.links.get(header.source)
        if header.target != self._own or link is None:
            return
        far = self.monitor.nodes[header.source]
        far.heard(received, self._modem.now_s)
        for packet in link.receive(header, received.payload):
            far.delivered(len(packet))
            self.refused += not self._device.write(packet)
