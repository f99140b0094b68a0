"""A TCP relay in front of a server that delays data and cuts connections in mid-message."""

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

import numpy as np

_BYTES_BETWEEN_CUTS: Final = 1_000_000.0
_HELD_SHARE: Final = 0.01
_LONGEST_HOLD_S: Final = 0.05
_CONNECT_S: Final = 2.0


class Relay:
    """Listens on `port` of this machine within its context.

    `target` returns the server's current port, None without a server.
    """

    def __init__(self, target: Callable[[], int | None], rng: np.random.Generator) -> None:
        self.port = 0
        self.cuts = 0
        self.holds = 0
        self._target = target
        self._rng = rng
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),))

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_listening.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._on_connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_listening.set()
        await self._stop.wait()
        server.close()
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._forward(reader, writer)
        except (OSError, TimeoutError):
            pass  # one end is gone; the other's connection is aborted below
        finally:
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._target()
        if port is None:
            return
        opening = asyncio.open_connection("127.0.0.1", port)
        far_reader, far_writer = await asyncio.wait_for(opening, _CONNECT_S)
        budget = _ByteBudget(float(self._rng.exponential(_BYTES_BETWEEN_CUTS)))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, far_writer, budget))
                both.create_task(self._copy(far_reader, writer, budget))
        except* (OSError, _Cut):
            pass
        finally:
            far_writer.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, budget: "_ByteBudget"
    ) -> None:
        while data := await reader.read(1 << 16):
            if self._rng.random() < _HELD_SHARE:
                self.holds += 1
                await asyncio.sleep(float(self._rng.uniform(0.0, _LONGEST_HOLD_S)))
            through = data[: budget.spend(len(data))]
            writer.write(through)
            await writer.drain()
            if len(through) < len(data):
                self.cuts += 1
                raise _Cut
        raise _Cut


class _Cut(Exception):
    """This connection is cut."""


class _ByteBudget:
    """The bytes that a connection will still forward, both directions together."""

    def __init__(self, left_bytes: float) -> None:
        self._left_bytes = left_bytes

    def spend(self, size_bytes: int) -> int:
        """Takes up to `size_bytes` from the budget; returns the bytes to forward."""
        through = min(size_bytes, int(self._left_bytes))
        self._left_bytes -= through
        return through
