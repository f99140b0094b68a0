"""Forwards packets between the TUN devices of a server and its clients at their due times."""

import os
import select
from collections.abc import Sequence

from channel.core.clock import Clock
from channel.live.lateness import LatenessMonitor
from channel.live.switch import SERVER, Switch

_READ_BATCH = 64
"""Packets read from one device before the next device is served."""
_IDLE_S = 0.5


class Forwarder:
    """The forwarding loop, which ends once `lifeline` is readable or its other end is closed.

    `devices` are non-blocking descriptors that read and write one packet at a time: the server's, then each
    client's. `refused` counts packets for which a device was not writable.
    """

    def __init__(
        self, switch: Switch, devices: Sequence[int], lifeline: int, clock: Clock, packet_bytes: int
    ) -> None:
        self._switch, self._clock, self._lifeline = switch, clock, lifeline
        self._device = dict(zip([SERVER, *range(len(devices) - 1)], devices, strict=True))
        self._port = {device: port for port, device in self._device.items()}
        self._packet_bytes = packet_bytes
        self.lateness = LatenessMonitor()
        self.refused = 0

    def run(self) -> None:
        """Forwards until the lifeline is readable or closed."""
        watched = [*self._port, self._lifeline]
        while True:
            wait_s = min(max(self._switch.next_s() - self._clock.now_s(), 0.0), _IDLE_S)
            ready, _, _ = select.select(watched, [], [], wait_s)
            if self._lifeline in ready:
                return
            for device in ready:
                self._read(device)
            self._release()

    def _read(self, device: int) -> None:
        port = self._port[device]
        for _ in range(_READ_BATCH):
            try:
                packet = os.read(device, self._packet_bytes)
            except BlockingIOError:
                return
            self._switch.take(port, packet, self._clock.now_s())

    def _release(self) -> None:
        now_s = self._clock.now_s()
        for due_s, port, packet in self._switch.release(now_s):
            try:
                os.write(self._device[port], packet)
            except BlockingIOError:
                self.refused += 1
            self.lateness.note(due_s, now_s)
