"""The IQ channel: a block against its transforms and noise alone, and the whole server against real time.

CPU time of one thread. The server of `splitfl channel air` is a process of its own; two radios send it noise.
"""

import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import numpy as np

from channel.core.rng import stream
from experiments.bench.fresh import Fresh, NotHere
from experiments.bench.radio.air_clock import RATE_HZ, block_costs, served_costs
from experiments.bench.radio.cell_clock import one_thread
from experiments.bench.ratio import Figure, at_least, at_most
from experiments.bench.setting import Setting
from testbed.radio.zmq_radio import ZmqRadio, settings_of

_FADING, _CONSTANT = "urban-micro", "ideal"
_SERVED_S = 2.0
_PATIENCE_S = 60.0
_MOST_RATIO = 1.5


def air(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Block ratios of 2 and 4 nodes, and seconds of samples per CPU second. Raises NotHere without pyzmq."""
    if find_spec("zmq") is None:
        raise NotHere("pyzmq is not installed: pip install 'splitfl[radio]'")
    cases = [(_CONSTANT, 2)] if setting.is_quick else [(_CONSTANT, 2), (_FADING, 2), (_FADING, 4)]
    figures = [_block(setting, progress, name, nodes) for name, nodes in cases]
    return [*figures, _served(setting, progress)]


def _block(setting: Setting, progress: Callable[[str], None], name: str, nodes: int) -> Figure:
    progress(f"{nodes} nodes of {name}")
    log = setting.folder / "air.log"
    with one_thread(), Fresh(log, block_costs, name, nodes, setting.sweeps) as process:
        pairs = process.take()
        process.go()
    return Figure(
        what=f"a block of {nodes} nodes, {name} / its transforms and noise alone",
        ratios=tuple(step_s / floor_s for step_s, floor_s in pairs),
        target=at_most(_MOST_RATIO),
    )


def _served(setting: Setting, progress: Callable[[str], None]) -> Figure:
    progress("two radios on the server")
    shares = []
    for _ in range(setting.sweeps):
        port = free_port()
        log = setting.folder / "air.log"
        with one_thread(), Fresh(log, served_costs, _FADING, 2, port, _SERVED_S) as process:
            peers = [threading.Thread(target=_take_part, args=(port, node)) for node in (0, 1)]
            process.take()
            process.go()
            for peer in peers:
                peer.start()
            shares.append(1.0 / process.take())
            for peer in peers:
                peer.join()
            process.go()
    return Figure(
        what=f"seconds of samples per CPU second, 2 nodes at {RATE_HZ / 1e6:g} Msps over ZMQ",
        ratios=tuple(shares),
        target=at_least(1.0),
    )


def free_port() -> int:
    """A free port; those after it are nearly always free too."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _take_part(port: int, node: int) -> None:
    """Sends noise and receives for as long as the server runs."""
    settings = replace(settings_of(node, port=port, rate_hz=RATE_HZ), timeout_s=_PATIENCE_S)
    radio = ZmqRadio(settings)
    count = round(RATE_HZ / 1000.0)
    parts = stream(node, "bench", "air").standard_normal(2 * count) / 4.0
    burst = parts.astype(np.float32).view(np.complex64)
    for _ in range(round(_SERVED_S * 1000.0)):
        radio.send(burst)
        radio.receive(count)
    radio.close()
