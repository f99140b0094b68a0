"""Round trip of a split step over loopback by every transport: 3 MiB in each direction, and 64 bytes."""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from experiments.bench.broker import ports
from experiments.bench.fresh import Fresh, Hand
from experiments.bench.ratio import Figure, at_most, pair_ratios
from experiments.bench.setting import Setting
from splitfl.config import TransportConfig, chosen
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import transport

STEP_BYTES: Final = 3 << 20
_SMALL_BYTES: Final = 64
_ROUNDS: Final = 40
_PATIENCE_S: Final = 60.0
_NVFLARE_S: Final = 0.030  # the same exchange with NVFlare, measured at design time


def transports(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Median round-trip times, interleaved across transports."""
    with ExitStack() as stack:
        port_of = ports(setting.folder, stack)
        clients = {
            name: stack.enter_context(_connected(setting, name, port)) for name, port in port_of.items()
        }
        large: dict[str, list[float]] = {name: [] for name in clients}
        small: dict[str, list[float]] = {name: [] for name in clients}
        for _ in range(setting.sweeps):
            for name, client in clients.items():
                progress(name)
                client.go()
                large_s, small_s = client.take()
                large[name].append(large_s)
                small[name].append(small_s)
    return _figures(large, small)


def _figures(large: dict[str, list[float]], small: dict[str, list[float]]) -> list[Figure]:
    def over(taken_s: Sequence[float], unit_s: float) -> tuple[float, ...]:
        return tuple(one / unit_s for one in taken_s)

    figures = [
        Figure(
            what="3 MiB round trip, grpc / rpc over TCP",
            ratios=pair_ratios(large["grpc"], large["rpc"]),
            target=at_most(1.5),
        ),
        Figure(
            what="3 MiB round trip, grpc / 30 ms (NVFlare)",
            ratios=over(large["grpc"], _NVFLARE_S),
            target=at_most(0.2),
        ),
        Figure(
            what="64 bytes round trip, grpc / 1 ms",
            ratios=over(small["grpc"], 1e-3),
            target=at_most(1.0),
        ),
        Figure(what="the same, rpc / 1 ms", ratios=over(small["rpc"], 1e-3)),
    ]
    if "mqtt" in large:
        figures += [
            Figure(what="3 MiB round trip, mqtt / rpc", ratios=pair_ratios(large["mqtt"], large["rpc"])),
            Figure(what="64 bytes round trip, mqtt / 1 ms", ratios=over(small["mqtt"], 1e-3)),
        ]
    return figures


@contextmanager
def _connected(setting: Setting, name: str, port: int) -> Iterator[Fresh]:
    """A client that measures a sweep on each `go`, with a server in another process."""
    with Fresh(setting.folder / f"{name}-server.log", _serve, name, port) as server:
        address = server.take()
        server.go()
        with Fresh(setting.folder / f"{name}-client.log", _measure, name, address, setting.sweeps) as client:
            client.take()
            yield client
            client.go()
            client.end()
        server.go()
        server.end()


def _serve(hand: Hand, name: str, port: int) -> None:
    spec = transport(name)
    end = spec.serve(chosen(TransportConfig, [spec.settings], {"name": name, "port": port}), 1)
    end.offer({})
    hand(end.address)
    deadline_s = time.monotonic() + _PATIENCE_S
    while end.missing() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    end.start(lambda client, frame, answer: answer(frame))
    hand(None)
    end.stop()


def _measure(hand: Hand, name: str, address: str, sweeps: int) -> None:
    end = transport(name).join(Joining(address=address, client=0, timeout_s=_PATIENCE_S))
    end.enter()
    _round_trip_s(end.request, STEP_BYTES)
    hand(None)
    for _ in range(sweeps):
        hand((_round_trip_s(end.request, STEP_BYTES), _round_trip_s(end.request, _SMALL_BYTES)))
    end.leave()


def _round_trip_s(request: Callable[[bytes], bytes], size: int) -> float:
    frame, taken_s = bytes(range(256)) * (size // 256 + 1), []
    frame = frame[:size]
    for _ in range(_ROUNDS):
        began_s = time.perf_counter()
        request(frame)
        taken_s.append(time.perf_counter() - began_s)
    return statistics.median(taken_s)
