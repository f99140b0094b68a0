"""A TCP proxy that slows what it hands on: rate and delay, and nothing else.

It needs no root and no device, and so it sees a stream of bytes and no packets: there is no loss here, no
jitter, no reordering, no queue that overflows, and what TCP makes of those is not to be seen either. Whoever
needs them takes a TUN device. It fits what uses one port; PyTorch RPC, which opens others, goes round it.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from channel.core.errors import NoDevice
from channel.links.fixed import Direction

log = logging.getLogger(__name__)

ONLY: Final = "rate and delay only: no loss, no jitter, no reordering and no full queue, which take root"
_CHUNK_BYTES: Final = 4096
_WAITING: Final = 256
"""Chunks that one direction of one connection holds; a sender that is faster has to wait."""


class _Lane:
    """One direction, shared by all connections: each byte takes its time after those before it."""

    def __init__(self, way: Direction) -> None:
        self._way, self._free_s = way, 0.0

    def due_s(self, size_bytes: int, now_s: float) -> float:
        """When these bytes, sent now, are there."""
        airtime_s = 8.0 * size_bytes / self._way.rate_bps if self._way.rate_bps else 0.0
        self._free_s = max(self._free_s, now_s) + airtime_s
        return self._free_s + self._way.delay_s


class Proxy:
    """Listens at an address and connects whoever comes to the target, at the rate and delay of the ways.

    `up` is towards the target. All connections together share them, as those of one client do.
    """

    def __init__(self, target: tuple[str, int], up: Direction, down: Direction) -> None:
        """Raises NoDevice for ways that lose packets: a proxy cannot."""
        for way in (up, down):
            if way.loss is not None or way.loss_rate:
                raise NoDevice(f"a proxy cannot lose packets: {ONLY}")
        self._target = target
        self._up, self._down = _Lane(up), _Lane(down)

    async def serve(self, host: str, port: int, ready: Callable[[str, int], None]) -> None:
        """Until it is cancelled; says to `ready` where it listens."""
        async with await asyncio.start_server(self._connected, host, port) as server:
            at = server.sockets[0].getsockname()
            ready(at[0], at[1])
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError as error:
            log.warning("nobody answers at %s:%d: %s", *self._target, error)
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_carry(reader, there_writer, self._up))
                group.create_task(_carry(there_reader, writer, self._down))
        except* (ConnectionError, TimeoutError) as gone:
            log.debug("a connection ended: %s", gone.exceptions[0])
        finally:
            for one in (writer, there_writer):
                one.transport.abort()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lane: _Lane) -> None:
    """Reads as it comes and writes when it is due, until the end of the stream, which travels too."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING)

    async def let_go() -> None:
        clock = asyncio.get_running_loop()
        while True:
            due_s, chunk = await waiting.get()
            await asyncio.sleep(due_s - clock.time())
            if not chunk:
                with suppress(OSError):  # the other side may be gone already
                    writer.write_eof()
                return
            writer.write(chunk)
            await writer.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(let_go())
        chunk = b"first"
        while chunk:
            chunk = await reader.read(_CHUNK_BYTES)
            await waiting.put((lane.due_s(len(chunk), asyncio.get_running_loop().time()), chunk))
