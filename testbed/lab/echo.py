"""Measures a transport between two nodes: `python -m testbed.lab.echo serve|join NAME HOST PORT`.

The server echoes frames; the client measures round trip and rate and prints them as JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Final

from splitfl.config import TransportConfig, chosen
from splitfl.core.errors import SplitflError, Timeout
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import TRANSPORTS

PATIENCE_S: Final = 8.0
_SMALL: Final = 200
_LARGE_BYTES: Final = 4 << 20
_LARGE: Final = 8


def serve(name: str, host: str, port: int) -> None:
    """Echoes the frames of one client until it sends b"over"."""
    spec, waits = TRANSPORTS[name], {"timeout_s": PATIENCE_S, "join_timeout_s": 4 * PATIENCE_S}
    config = chosen(TransportConfig, [spec.settings], {"name": name, "host": host, "port": port, **waits})
    end = spec.serve(config, 1)
    over: list[bool] = []

    def echo(client: int, frame: bytes, answer: Callable[[bytes], None]) -> None:
        answer(frame)
        if frame == b"over":
            over.append(True)

    try:
        end.offer({})
        print(end.address, flush=True)
        _await(lambda: not end.missing())
        end.start(echo)
        _await(lambda: bool(over))
        time.sleep(0.5)
    finally:
        end.stop()


def join(name: str, host: str, port: int) -> None:
    """Prints the round trip of small frames and the one-way rate in bits per second of large ones."""
    address = f"{host}:{port}"
    end = TRANSPORTS[name].join(Joining(address=address, client=0, timeout_s=PATIENCE_S))
    try:
        begun_s = time.monotonic()
        end.enter()
        entered_s = time.monotonic() - begun_s
        times_s = [_timed(end.request, b"x" * 64) for _ in range(_SMALL)]
        large_s = [_timed(end.request, bytes(_LARGE_BYTES)) for _ in range(_LARGE)]
        end.request(b"over")
        results = {
            "enter_s": entered_s,
            "round_trip_s": sorted(times_s)[_SMALL // 2],
            "rate_bps": 2 * 8 * _LARGE_BYTES / sorted(large_s)[_LARGE // 2],
        }
        print(json.dumps(results), flush=True)
    finally:
        end.leave()


def _timed(request: Callable[[bytes], bytes], frame: bytes) -> float:
    begun_s = time.perf_counter()
    assert request(frame) == frame
    return time.perf_counter() - begun_s


def _await(is_so: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 6 * PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline_s:
            raise Timeout("the client did not join, or did not finish, in time")
        time.sleep(0.02)


if __name__ == "__main__":
    side, transport, where, number = sys.argv[1:]
    try:
        (serve if side == "serve" else join)(transport, where, int(number))
    except SplitflError as error:
        sys.exit(f"Error: {error}")
