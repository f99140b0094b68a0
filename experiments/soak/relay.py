"""A TCP relay before a server that holds up what goes through, and breaks connections in mid-message."""

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
    """Listens on `port` of this machine while its context lasts.

    `target` says at which port the server is now, None for nowhere.
    """

    def __init__(self, target: Callable[[], int | None], chance: np.random.Generator) -> None:
        self.port = 0
        self.cuts = 0
        self.holds = 0
        self._target = target
        self._chance = chance
        self._loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._is_listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._listen(),))

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_listening.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._came, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._is_listening.set()
        await self._over.wait()
        server.close()
        pending = asyncio.all_tasks() - {asyncio.current_task()}
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def _came(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._join(reader, writer)
        except (OSError, TimeoutError):
            pass  # one of the ends is gone, which the other is told below
        finally:
            writer.transport.abort()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        port = self._target()
        if port is None:
            return
        opening = asyncio.open_connection("127.0.0.1", port)
        far_reader, far_writer = await asyncio.wait_for(opening, _CONNECT_S)
        left = _Left(float(self._chance.exponential(_BYTES_BETWEEN_CUTS)))
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._carry(reader, far_writer, left))
                both.create_task(self._carry(far_reader, writer, left))
        except* (OSError, _Broken):
            pass
        finally:
            far_writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: "_Left") -> None:
        while data := await reader.read(1 << 16):
            if self._chance.random() < _HELD_SHARE:
                self.holds += 1
                await asyncio.sleep(float(self._chance.uniform(0.0, _LONGEST_HOLD_S)))
            through = data[: left.spend(len(data))]
            writer.write(through)
            await writer.drain()
            if len(through) < len(data):
                self.cuts += 1
                raise _Broken
        raise _Broken


class _Broken(Exception):
    """This connection carries no more."""


class _Left:
    """How many bytes a connection will still carry, either way."""

    def __init__(self, left_bytes: float) -> None:
        self._left_bytes = left_bytes

    def spend(self, size_bytes: int) -> int:
        """How many of so many bytes go through."""
        through = min(size_bytes, int(self._left_bytes))
        self._left_bytes -= through
        return through
