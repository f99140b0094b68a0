"""The same packets in virtual and in real time: do both lose as many, and carry as much?

Axes: N packets, evenly spaced in time.
"""

import socket
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from channel.live.emulation import Emulation
from testbed.live import LiveLink

_PORT = 4000
_HEADERS_BYTES = 28  # of IPv4 and UDP
_BATCHES = 20
_LAST_S = 0.5
_BUFFER_BYTES = 4_000_000


@dataclass(frozen=True, kw_only=True, eq=False)
class Agreement:
    """Which packets arrived in virtual time, and which in real time; all of one size."""

    virtual_N: NDArray[np.bool_]
    live_N: NDArray[np.bool_]

    @property
    def sigmas(self) -> float:
        """By how many standard errors the shares differ that arrived.

        Losses come in bursts, so the error is that of the means of stretches of the virtual run, and at least
        what independent losses of every twentieth packet would have: twenty or so share a fade.
        """
        stretches = np.asarray([part.mean() for part in np.array_split(self.virtual_N, _BATCHES)])
        share = float(self.virtual_N.mean())
        least = (share * (1.0 - share) * _BATCHES / self.virtual_N.size) ** 0.5
        error = 2.0**0.5 * max(float(stretches.std(ddof=1)) / _BATCHES**0.5, least)
        apart = abs(float(self.live_N.mean()) - share)
        return apart / error if error else (0.0 if not apart else float("inf"))


def agreement(emulation: Emulation, *, packets: int, size_bytes: int, gap_s: float) -> Agreement:
    """Sends from client 0 to the server, on both clocks; `size_bytes` has the headers in it.

    Raises NotRoot without root.
    """
    with LiveLink(emulation, "reno") as link, _Ends(link) as ends:
        ends.send(packets, size_bytes, gap_s)
        time.sleep(_LAST_S)
        live_N = np.zeros(packets, dtype=np.bool_)
        live_N[ends.received()] = True
    return Agreement(virtual_N=virtually(emulation, packets, size_bytes, gap_s), live_N=live_N)


def virtually(emulation: Emulation, packets: int, size_bytes: int, gap_s: float) -> NDArray[np.bool_]:
    """Whether each packet arrives, where time is only told."""
    decider = emulation.decider()
    arrived_N = np.zeros(packets, dtype=np.bool_)
    taken: dict[int, int] = {}
    for packet in range(packets + round(_LAST_S / gap_s)):
        for fate in decider.decided(packet * gap_s):
            arrived_N[taken[fate.number]] = fate.arrived
        if packet < packets:
            number = decider.offer(0, "up", size_bytes, packet * gap_s)
            if number is not None:
                taken[number] = packet
    return arrived_N


class _Ends:
    """UDP from client 0 to the server of a live link, each packet with its number."""

    def __init__(self, link: LiveLink) -> None:
        with link.server.inside():
            self._server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self._to = link.addresses[0], _PORT
        self._server.bind(self._to)
        self._server.setblocking(False)
        with link.clients[0].inside():
            self._client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def send(self, packets: int, size_bytes: int, gap_s: float) -> None:
        begin_s = time.monotonic()
        for number in range(packets):
            time.sleep(max(0.0, begin_s + number * gap_s - time.monotonic()))
            payload = number.to_bytes(4, "big").ljust(size_bytes - _HEADERS_BYTES, b"\0")
            self._client.sendto(payload, self._to)

    def received(self) -> list[int]:
        """The numbers of all that has come, in order of arrival."""
        numbers = []
        while True:
            try:
                numbers.append(int.from_bytes(self._server.recv(4), "big"))
            except BlockingIOError:
                return numbers

    def __enter__(self) -> "_Ends":
        return self

    def __exit__(self, *error: object) -> None:
        self._server.close()
        self._client.close()
