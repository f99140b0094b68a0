"""An IQ channel as a server for radio programs that send and receive samples over ZMQ.

Node k sends at PORT + 2 k and receives at PORT + 2 k + 1; see `zmq_port` for the protocol. All nodes go in
lock-step: nobody receives a sample before every node that is there has sent one, so that a program which is
too slow makes all of them slow instead of losing samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np

from channel.core.arrays import above
from channel.core.clock import Clock, WallClock
from channel.core.errors import BadParameter
from channel.iq.air_report import AirReport
from channel.iq.channel import IqChannel
from channel.iq.pace import AirPace
from channel.iq.sample_format import format_of
from channel.iq.zmq_port import ZmqPort, import_zmq

MEMORY_S = 0.1
"""Samples that a node has not taken yet, before the others have to wait for it."""
_GRACE_S = 0.001
"""After this time less than a block is computed, since a peer may wait for it before it sends more."""
_LONGEST_POLL_S = 0.05


@dataclass(frozen=True, kw_only=True)
class PortSettings:
    """Where nodes are reached, and how long they are waited for.

    `port` is that of node 0's transmitter. The air listens at `host`; transmitters are on this machine, or at
    `node_hosts` of their node. A node that sends nothing for `timeout_s` is silent until it
    sends again. With `is_real_time` samples pass no faster than at their rate. `sample_format` is fc32, or
    sc16, which clips parts beyond 1. Raises BadParameter for values out of range.
    """

    port: int = 2000
    host: str = "127.0.0.1"
    timeout_s: float = 1.0
    is_real_time: bool = True
    node_hosts: Mapping[int, str] = field(default_factory=dict)
    sample_format: str = "fc32"

    def __post_init__(self) -> None:
        format_of(self.sample_format)
        above("timeout_s", self.timeout_s, 0.0)
        if not 1 <= self.port <= 65535:
            raise BadParameter(f"port must lie in [1, 65535], got {self.port}")

    def sends_at(self, node: int) -> str:
        """Where the transmitter of a node listens."""
        return f"tcp://{self.node_hosts.get(node, '127.0.0.1')}:{self.port + 2 * node}"

    def hears_at(self, node: int) -> str:
        """Where the receiver of a node asks."""
        return f"tcp://{self.host}:{self.port + 2 * node + 1}"


class Air:
    """The server; a context manager that opens its sockets and closes them.

    `tell` gets a line for each event, such as a node that is lost. Raises BadParameter for a port in use or
    too high, and without pyzmq.
    """

    def __init__(
        self,
        channel: IqChannel,
        settings: PortSettings,
        *,
        tell: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        last = settings.port + 2 * channel.nodes - 1
        if last > 65535:
            raise BadParameter(f"port must be at most {65536 - 2 * channel.nodes}, got {settings.port}")
        self._zmq = import_zmq()
        self._channel, self._settings, self._tell = channel, settings, tell
        self._clock = clock or WallClock()
        self._pace = AirPace(self._clock, rate_hz=channel.rate_hz, is_real=settings.is_real_time)
        self._memory = max(round(MEMORY_S * channel.rate_hz), 4 * channel.block)
        self._ports: list[ZmqPort] = []
        self._blocked_s: float | None = None
        self._began_s: float | None = None
        self._wait_s = 0.0

    def __enter__(self) -> Self:
        self._context = self._zmq.Context()
        self._poller = self._zmq.Poller()
        form = format_of(self._settings.sample_format)
        try:
            for node in range(self._channel.nodes):
                here = (self._settings.sends_at(node), self._settings.hears_at(node))
                self._ports.append(ZmqPort(self._context, node, *here, self._tell, form))
        except BadParameter:
            self.close()
            raise
        for port in self._ports:
            for socket in (port.sender, port.events, port.listener):
                self._poller.register(socket, self._zmq.POLLIN)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes all sockets."""
        self._ports.clear()
        self._context.destroy(linger=0)

    def run(
        self,
        *,
        stop: Callable[[], bool] = lambda: False,
        seconds: float | None = None,
        progress: Callable[[AirReport], None] = lambda _: None,
    ) -> AirReport:
        """Serves until `stop` or for `seconds` of samples; calls `progress` after every turn."""
        last = None
        if seconds is not None:
            last = round(float(above("seconds", seconds, 0.0)) * self._channel.rate_hz)
        while not stop() and (last is None or self._channel.position < last):
            self._turn(last)
            progress(self.report())
        self._hand_out(stop)
        return self.report()

    def report(self) -> AirReport:
        """What went through so far."""
        now_s = self._clock.now_s()
        return AirReport(
            rate_hz=self._channel.rate_hz,
            samples=self._channel.position,
            wall_s=0.0 if self._began_s is None else now_s - self._began_s,
            slips=self._pace.slips,
            ports=[port.counts for port in self._ports],
        )

    def _hand_out(self, stop: Callable[[], bool]) -> None:
        """At the end, gives the receivers what is left, if they ask in time."""
        until_s = self._clock.now_s() + self._settings.timeout_s
        while not stop() and any(port.listens and len(port.heard) for port in self._ports):
            if self._clock.now_s() > until_s:
                return
            self._exchange(_GRACE_S)

    def _exchange(self, wait_s: float) -> None:
        """Waits for messages and takes them in; answers those who ask."""
        ready = dict(self._poller.poll(1000.0 * wait_s))
        for port in self._ports:
            port.take_in(ready)
            port.answer()

    def _turn(self, last: int | None) -> None:
        """Takes in what came, and computes at most a block."""
        self._exchange(min(self._wait_s, _LONGEST_POLL_S))
        for port in self._ports:
            port.ask(2 * self._channel.block)
        count = self._ready(last)
        begin = self._channel.position
        self._wait_s = self._pace.wait_s(begin, begin + count) if count else self._until_s()
        if count and self._wait_s <= 0.0:
            self._step(count)
            for port in self._ports:
                port.answer()

    def _ready(self, last: int | None) -> int:
        """The number of samples that can be computed now."""
        now_s = self._clock.now_s()
        is_sending = any(port.is_connected and not port.is_lost for port in self._ports)
        if not is_sending and not any(port.waits for port in self._ports):
            self._blocked_s = None
            self._pace.pause()  # nobody is there, so time stands still
            return 0
        if self._blocked_s is None:
            self._blocked_s = now_s
        waited_s = now_s - self._blocked_s
        block = self._channel.block - self._channel.position % self._channel.block
        wanted = block if last is None else min(block, last - self._channel.position)
        there = [len(port.sent) for port in self._ports if not port.is_lost]
        room = [self._memory - len(port.heard) for port in self._ports if port.listens and port.has_asked]
        count = min([wanted, *there, *room])
        if not count and waited_s > self._settings.timeout_s:
            self._give_up()
            self._blocked_s = now_s
        return count if count == wanted or waited_s > _GRACE_S else 0

    def _until_s(self) -> float:
        """How long nothing changes if no message comes."""
        return _GRACE_S if any(len(port.sent) for port in self._ports) else _LONGEST_POLL_S

    def _give_up(self) -> None:
        """Goes on without those for whom all wait: a full receiver, else transmitters that do not answer."""
        full = [port for port in self._ports if port.listens and len(port.heard) >= self._memory]
        for port in full:
            port.deafen()
        if full:
            return
        empty = [port for port in self._ports if not port.is_lost and not len(port.sent)]
        # A program may wait for what it hears before it sends on; the others are to blame, if there are any.
        for port in [port for port in empty if not port.waits] or empty:
            port.lose(f"has sent nothing for {self._settings.timeout_s:g} s")

    def _step(self, count: int) -> None:
        if self._began_s is None:
            self._began_s = self._clock.now_s()
        sent_NB = np.zeros((self._channel.nodes, count), dtype=np.complex64)
        for port, sent_B in zip(self._ports, sent_NB, strict=True):
            if port.is_lost:
                port.counts.zeros += count
            else:
                sent_B[:] = port.sent.take(count)
        heard_NB = self._channel.step(sent_NB)
        self._pace.release(self._channel.position)
        for port, heard_B in zip(self._ports, heard_NB, strict=True):
            port.keep(heard_B, self._memory)
        self._blocked_s = self._clock.now_s()


def device_arguments(settings: PortSettings, node: int, rate_hz: float) -> str:
    """The device arguments of srsRAN 4G for a node; its device_name is zmq."""
    sends, form = f"tcp://*:{settings.port + 2 * node}", settings.sample_format
    ports = f"tx_port={sends},rx_port={settings.hears_at(node)},id=node{node},base_srate={rate_hz:.12g}"
    return ports if form == "fc32" else f"{ports},tx_format={form},rx_format={form}"


def gnuradio_blocks(settings: PortSettings, node: int) -> str:
    """GNU Radio's sink and source for a node, in Python; an item is a sample."""
    size = "gr.sizeof_gr_complex" if settings.sample_format == "fc32" else "2 * gr.sizeof_short"
    sends = f"tcp://*:{settings.port + 2 * node}"
    return (
        f'sink = zeromq.rep_sink({size}, 1, "{sends}", 100, False)\n'
        f'source = zeromq.req_source({size}, 1, "{settings.hears_at(node)}", 100, False)'
    )
