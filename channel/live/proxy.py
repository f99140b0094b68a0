"""A TCP proxy that limits rate and adds delay.

It needs neither root nor a device, and therefore works on the byte stream instead of packets: it cannot
emulate loss, jitter, reordering or queue overflow, nor TCP's reaction to them; a TUN device can. It suits
protocols with a single port; PyTorch RPC opens further ports, whose traffic bypasses the proxy.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from channel.core.errors import NoDevice
from channel.links.fixed import Direction

log = logging.getLogger(__name__)

ONLY: Final = "rate and delay only; loss, jitter, reordering and queue overflow need root"
_CHUNK_BYTES: Final = 4096
_WAITING: Final = 256
"""Chunks buffered per direction and connection, before backpressure."""


class _RateLimiter:
    """One direction, shared by all connections: bytes are serialised at its rate."""

    def __init__(self, direction: Direction) -> None:
        self._direction, self._free_s = direction, 0.0

    def due_s(self, size_bytes: int, now_s: float) -> float:
        """The arrival time of bytes that are sent now."""
        rate_bps = self._direction.rate_bps
        airtime_s = 8.0 * size_bytes / rate_bps if rate_bps else 0.0
        self._free_s = max(self._free_s, now_s) + airtime_s
        return self._free_s + self._direction.delay_s


class ThrottlingProxy:
    """Forwards connections to the target at the rate and delay of `up`, towards the target, and `down`.

    All connections share the rate, as those of one client do.
    """

    def __init__(self, target: tuple[str, int], up: Direction, down: Direction) -> None:
        """Raises NoDevice for a direction with packet loss, which a proxy cannot emulate."""
        for direction in (up, down):
            if direction.loss is not None or direction.loss_rate:
                raise NoDevice(f"a proxy cannot lose packets: {ONLY}")
        self._target = target
        self._up, self._down = _RateLimiter(up), _RateLimiter(down)

    async def serve(self, host: str, port: int, ready: Callable[[str, int], None]) -> None:
        """Serves until cancelled; calls `ready` with the host and port on which it listens."""
        async with await asyncio.start_server(self._connected, host, port) as server:
            at = server.sockets[0].getsockname()
            ready(at[0], at[1])
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._target)
        except OSError as error:
            log.warning("cannot connect to %s:%d: %s", *self._target, error)
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


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limiter: _RateLimiter) -> None:
    """Copies a stream with its delays, the end of the stream included."""
    waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_WAITING)

    async def release() -> None:
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
        group.create_task(release())
        chunk = b"first"
        while chunk:
            chunk = await reader.read(_CHUNK_BYTES)
            await waiting.put((limiter.due_s(len(chunk), asyncio.get_running_loop().time()), chunk))
