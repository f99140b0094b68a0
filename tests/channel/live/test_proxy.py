"""A proxy slows bytes down and changes none of them; it can do no more, and says so."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from channel.core.errors import NoDevice
from channel.links.fixed import Direction
from channel.live.proxy import ThrottlingProxy

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def through(up: Direction, down: Direction, talk: Talk) -> None:
    """Lets `talk` talk through a proxy to a server that sends everything back, and then its end."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.write_eof()
        await writer.drain()
        writer.close()

    async def whole() -> None:
        async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            at: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
            proxy = ThrottlingProxy(("127.0.0.1", port), up, down)
            served = asyncio.create_task(
                proxy.serve("127.0.0.1", 0, lambda host, port: at.set_result((host, port)))
            )
            reader, writer = await asyncio.open_connection(*await at)
            await talk(reader, writer)
            writer.close()
            served.cancel()
            await asyncio.gather(served, return_exceptions=True)

    asyncio.run(asyncio.wait_for(whole(), 20.0))


@pytest.mark.parametrize("size", [1, 4097, 300_000])
def test_every_byte_is_echoed_and_not_too_early(size: int) -> None:
    sent = bytes(range(256)) * (size // 256) + bytes(size % 256)
    way = Direction(rate_bps=80e6, delay_s=0.01)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begin_s = time.monotonic()
        writer.write(sent)
        writer.write_eof()
        assert await reader.read() == sent
        # The way back begins when the whole has come: the echo waits for the end.
        assert time.monotonic() - begin_s >= 2 * (8 * size / 80e6 + 0.01) - 1e-3

    through(way, way, talk)


def test_a_proxy_that_is_to_lose_packets_refuses() -> None:
    with pytest.raises(NoDevice, match="a proxy cannot lose packets: rate and delay only"):
        ThrottlingProxy(("127.0.0.1", 1), Direction(loss_rate=0.1), Direction())


def test_a_target_that_is_not_there_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    async def whole() -> None:
        at: asyncio.Future[tuple[str, int]] = asyncio.get_running_loop().create_future()
        proxy = ThrottlingProxy(("127.0.0.1", 1), Direction(), Direction())
        served = asyncio.create_task(
            proxy.serve("127.0.0.1", 0, lambda host, port: at.set_result((host, port)))
        )
        reader, writer = await asyncio.open_connection(*await at)
        with suppress(ConnectionResetError):
            assert await reader.read(1) == b""
        writer.close()
        served.cancel()
        await asyncio.gather(served, return_exceptions=True)

    asyncio.run(asyncio.wait_for(whole(), 20.0))
    assert "cannot connect to 127.0.0.1:1" in caplog.text
