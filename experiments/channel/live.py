"""Rows 24, 24b and 28 of the conformance table: TCP and single packets over the live link, as root.

Row 24 uses a plain TCP stream, which is the transport of PyTorch RPC.
"""

import logging
import math
import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from channel.core.arrays import Array
from channel.links.fixed import Direction, FixedLink
from channel.live.emulation import Emulation
from channel.live.switch import DeliveryOrder
from channel.scenario import load as scenario
from channel.validation import Check, NotRunHere
from splitfl.core.errors import ConfigError, SplitflError
from testbed.live import LiveLink

log = logging.getLogger(__name__)

_RATE_BPS, _DELAY_S = 20e6, 0.005
_PORT = 4000
_LISTEN_S = 30.0
_STREAM_S = 6.0
_ECHOES = 60
_HEADERS_BYTES = 28
"""Of IPv4 and UDP."""
_PACKETS, _SIZE_BYTES, _GAP_S = 3000, 1000, 0.0005


def as_root(measure: Callable[[], float]) -> float:
    """The measured value, nan if the check fails; raises NotRunHere if a requirement is missing."""
    if os.geteuid() != 0:
        raise NotRunHere("needs root")
    if not Path("/dev/net/tun").exists():
        raise NotRunHere("needs /dev/net/tun")
    try:
        return measure()
    except ConfigError as error:
        raise NotRunHere(str(error)) from None
    except (SplitflError, OSError) as error:
        log.warning("check failed with an error: %s", error)
        return math.nan


def _emulation(loss_rate: float) -> Emulation:
    direction = Direction(rate_bps=_RATE_BPS, delay_s=_DELAY_S, loss_rate=loss_rate)
    link = FixedLink(seed=3, up=direction, down=direction, max_tries=1)
    return Emulation(air=link, clients=1, order=DeliveryOrder(seed=3))


@lru_cache
def _streamed(loss_rate: float, congestion: str) -> tuple[float, float]:
    """Goodput of an uplink TCP stream in bit/s, and the median round trip of one byte in ms."""
    with LiveLink(_emulation(loss_rate), congestion) as live:
        echo_ms = _over(live, _echo)
        goodput_bps = _over(live, _stream)
        live.finish()
        return goodput_bps, echo_ms


def _over(live: LiveLink, measure: Callable[[socket.socket, socket.socket], float]) -> float:
    """Applies `measure` to both ends of a TCP connection from the client to the server."""
    with live.server.inside():
        listener = socket.create_server((live.addresses[0], _PORT), reuse_port=True)
    with live.clients[0].inside():
        near = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, near:
        listener.settimeout(_LISTEN_S)
        near.settimeout(_LISTEN_S)
        near.connect((live.addresses[0], _PORT))
        far, _ = listener.accept()
        with far:
            far.settimeout(_LISTEN_S)
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            value = measure(near, far)
            # Reset instead of an orderly close, which is slow over a lossy link.
            near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return value


def _echo(near: socket.socket, far: socket.socket) -> float:
    times_ms = []
    for _ in range(_ECHOES):
        begin_s = time.monotonic()
        near.sendall(b"x")
        far.sendall(far.recv(1))
        near.recv(1)
        times_ms.append(1e3 * (time.monotonic() - begin_s))
    return float(np.median(times_ms))


def _stream(near: socket.socket, far: socket.socket) -> float:
    end_s = time.monotonic() + _STREAM_S

    def send() -> None:
        while time.monotonic() < end_s:
            near.sendall(bytes(65_536))

    sender = threading.Thread(target=send)
    sender.start()
    began_s, count = time.monotonic(), 0
    while time.monotonic() < end_s:
        count += len(far.recv(1 << 20))
    goodput_bps = 8.0 * count / (time.monotonic() - began_s)
    while sender.is_alive():
        far.recv(1 << 20)
    return goodput_bps


def _goodput_share() -> float:
    return _streamed(0.0, "reno")[0] / _RATE_BPS


def _echo_ms() -> float:
    return _streamed(0.0, "reno")[1]


def _lossy_mbps(loss_rate: float) -> float:
    return _streamed(loss_rate, "reno")[0] / 1e6


def _bbr_over_reno() -> float:
    """The ratio, capped at 3, which suffices to show that the congestion control is in effect."""
    return min(_streamed(0.05, "bbr")[0] / _streamed(0.05, "reno")[0], 3.0)


def _live_from_virtual(name: str) -> float:
    """Difference of the delivery rates, live less virtual, in standard errors of the virtual one."""
    loaded = scenario.load(name)
    made = replace(loaded, seed=5, link=replace(loaded.link, harq="none", max_tries=1))
    settings = Emulation(
        air=made, clients=1, order=DeliveryOrder(seed=5), recovery="unacknowledged", queue_bytes=10_000_000
    )
    arrived = _virtual(settings)
    share = float(arrived.mean())
    # Losses are bursty, so the standard error is estimated from 20 parts of the run.
    parts = arrived.reshape(20, -1).mean(axis=1)
    error = math.sqrt(2.0 / 20) * max(float(parts.std(ddof=1)), math.sqrt(share * (1.0 - share) / 150))
    return (_live_share(settings) - share) / error


def _virtual(settings: Emulation) -> Array:
    """Whether each packet arrives, simulated in virtual time; shape (packets,)."""
    decider, arrived = settings.decider(), np.zeros(_PACKETS)
    for number in range(_PACKETS + 4000):
        for outcome in decider.decided(number * _GAP_S):
            arrived[outcome.number] = outcome.arrived
        if number < _PACKETS:
            decider.offer(0, "up", _SIZE_BYTES, number * _GAP_S)
    return arrived


def _live_share(settings: Emulation) -> float:
    with LiveLink(settings, "reno") as live:
        with live.server.inside():
            far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with live.clients[0].inside():
            near = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with far, near:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_000_000)
            far.bind((live.addresses[0], _PORT))
            begin_s = time.monotonic()
            for number in range(_PACKETS):
                time.sleep(max(0.0, begin_s + number * _GAP_S - time.monotonic()))
                near.sendto(bytes(_SIZE_BYTES - _HEADERS_BYTES), (live.addresses[0], _PORT))
            time.sleep(0.5)
            row = next(row for row in live.finish()["links"] if row["direction"] == "up")
    return float(row["forwarded"] / _PACKETS)


CHECKS: tuple[Check, ...] = (
    Check(
        row="24",
        what="TCP goodput over 20 Mbit/s and 5 ms, live, reno, share of the rate",
        expected=0.935,
        tolerance=0.055,
        measure=partial(as_root, _goodput_share),
        is_quick=False,
    ),
    Check(
        row="24",
        what="median echo over the same, in ms (10 to 15)",
        expected=12.5,
        tolerance=2.5,
        measure=partial(as_root, _echo_ms),
        is_quick=False,
    ),
    *(
        Check(
            row="24b",
            what=f"TCP goodput over the same with {loss_rate:.0%} loss, reno, Mbit/s",
            expected=expected,
            tolerance=tolerance,
            measure=partial(as_root, partial(_lossy_mbps, loss_rate)),
            is_quick=False,
        )
        for loss_rate, expected, tolerance in ((0.01, 9.0, 4.0), (0.05, 3.75, 2.25))
    ),
    Check(
        row="24b",
        what="bbr over reno at 5% loss, counted up to 3",
        expected=3.0,
        tolerance=0.0,
        measure=partial(as_root, _bbr_over_reno),
        is_quick=False,
    ),
    *(
        Check(
            row="28",
            what=f"delivery rate, live less virtual, {name}, in standard errors",
            expected=0.0,
            tolerance=3.0,
            measure=partial(as_root, partial(_live_from_virtual, name)),
            is_quick=False,
        )
        for name in ("jammed", "lab-wifi")
    ),
)
