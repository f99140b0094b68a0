"""TCP and PyTorch RPC over the waveform between namespaces of this machine, and ARQ by itself."""

import logging
import socket
import statistics
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from channel.core.rng import stream
from channel.scenario.load import changed, load
from channel.waveform.arq import ArqLink
from experiments.bench.radio.air import free_port
from experiments.bench.ratio import Figure, at_least, at_most
from experiments.bench.setting import Setting
from experiments.rpc_probe import timed_rpc
from testbed.errors import NotRoot
from testbed.radio.modem import ModemSettings
from testbed.radio.radio_link import RadioLink, RadioLinkSettings

log = logging.getLogger(__name__)

_RATE_HZ = 5e5
_EDGE_DB, _NEAR_DB = 142.1, 120.0
"""Path losses at which a few packets in a hundred have errors, and none."""
_TCP_BYTES = 600_000
_DEVICE = "splitfl0"
_ECHO_BYTES, _SENDS = 20_000, 3
_SLACK_S = 0.020
_ARQ_LOSS, _ARQ_PACKETS, _MOST_GIVEN_UP = 0.3, 30_000, 1e-4
_TIMEOUT_S = 200.0


def bridged(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Packets that ARQ gives up; as root also goodput of TCP at the edge of a cell and RPC's echo near it."""
    progress("ARQ")
    figures = [_given_up()]
    try:
        progress("TCP over the bridge")
        figures.append(_tcp())
        progress("RPC over the bridge")
        figures += _echo()
    except NotRoot as error:
        log.warning("TCP and RPC over the waveform skipped: %s", error)
    return figures


def _given_up() -> Figure:
    """Of packets between two ends of which each loses three in ten, one packet per unit of time."""
    ends = [ArqLink(source=node, target=1 - node, timeout_s=6.0, session=5 + node) for node in (0, 1)]
    flying: list[deque[Any]] = [deque(), deque()]
    rng, offered, now_s = stream(0, "bench", "arq"), 0, 0.0
    while offered < _ARQ_PACKETS or not ends[0].is_idle:
        while offered < _ARQ_PACKETS and ends[0].offer(offered.to_bytes(4, "big")):
            offered += 1
        for node, one in enumerate(ends):
            if flying[node]:
                one.receive(*flying[node].popleft())
        for node, one in enumerate(ends):
            packet = one.next(now_s)
            if packet is not None and rng.random() >= _ARQ_LOSS:
                flying[1 - node].append(packet)
        now_s += 1.0
    return Figure(
        what=f"share of {_ARQ_PACKETS:,} packets that ARQ gives up at PER {_ARQ_LOSS:g}",
        ratios=(ends[0].counters.given_up / _ARQ_PACKETS,),
        target=at_most(_MOST_GIVEN_UP),
    )


def _tcp() -> Figure:
    """The median over seconds of samples."""
    with _link(_EDGE_DB) as link:
        address = link.addresses[1]
        with link.clients[0].inside():
            listener = socket.create_server((address, free_port()))
        with listener:
            taking = threading.Thread(target=_take, args=(listener,))
            taking.start()
            with link.server.inside():
                sender = socket.create_connection(listener.getsockname(), _TIMEOUT_S)
            with sender:
                sender.sendall(bytes(_TCP_BYTES))
            taking.join(_TIMEOUT_S)
        measured = link.finish()
    far = measured["nodes"][1]["nodes"]["0"]
    error_rate = far["bad"] / far["packets"]
    goodput_bps = statistics.median(row["goodput_bps"] for row in measured["rows"] if row["at"] == 1)
    return Figure(
        what=f"TCP over the bridge / PHY rate x (1 - PER), one way, PER {error_rate:.2f}",
        ratios=(goodput_bps / (_settings().phy_bps * (1.0 - error_rate)),),
        target=at_least(0.75),
    )


def _echo() -> list[Figure]:
    settings = _settings()
    bound_s = 2.0 * settings.modem.block_s + 2.0 * settings.modem.longest_burst / _RATE_HZ + _SLACK_S
    with _link(_NEAR_DB) as link:
        times = timed_rpc(
            link.server,
            link.clients[0],
            device=_DEVICE,
            arguments=[link.addresses[0], str(_ECHO_BYTES), str(_SENDS)],
        )
        air = link.finish()["air"]
    slipped = air["slips"]["slipped_s"] / air["wall_s"]
    return [
        Figure(
            what=f"RPC's echo / (2 blocks + 2 packets + 20 ms), {slipped:.1%} of the time slipped",
            ratios=tuple(took_s / bound_s for took_s in times["echo_s"]),
            target=at_most(1.0),
        ),
        Figure(
            what="goodput of RPC over the bridge / PHY rate",
            ratios=tuple(8.0 * _ECHO_BYTES / took_s / settings.phy_bps for took_s in times["send_s"]),
        ),
    ]


def _settings() -> RadioLinkSettings:
    return RadioLinkSettings(rate_hz=_RATE_HZ, modem=ModemSettings(mcs=16))


def _link(loss_db: float) -> RadioLink:
    """A server and a client at this path loss, with equal powers."""
    tables = {
        "place": {"users": 1, "loss_db": loss_db},
        "carrier": {"base_dbm": 40.0, "uplink_target_snr_db": 80.0},
        "device": {"transmit_dbm": 40.0},
    }
    return RadioLink(changed(load("ideal"), tables), _settings())


def _take(listener: socket.socket) -> None:
    """Receives all that one connection sends."""
    connection, _ = listener.accept()
    with connection:
        while connection.recv(1 << 16):
            pass
