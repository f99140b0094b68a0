"""The overlay between two namespaces over its design's prototype: round-trip time and throughput."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from experiments.bench.fresh import BenchError, NotHere
from experiments.bench.ratio import Figure, at_least, at_most
from experiments.bench.setting import Setting
from splitfl.transport.security.certificates import make_certificates
from testbed.errors import NotRoot
from testbed.namespaces import Namespace, veth

_PROTOTYPE_ECHO_S: Final = 1.2e-3  # measured at design time, as the next
_PROTOTYPE_BPS: Final = 480e6
_HUB, _JOINED = "10.1.0.1", "10.99.0.1"
_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.05
_ROOT: Final = str(Path(__file__).parents[2])
_ENDS: Final = [sys.executable, "-m", "experiments.bench.overlay_ends"]


def overlay(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """A hub and a client joined by a veth pair; repeated TCP measurements over the overlay."""
    try:
        with ExitStack() as stack:
            hub, client = _joined(stack, setting.folder)
            found = []
            for sweep in range(setting.sweeps):
                progress(f"sweep {sweep + 1}")
                found.append(_measured(hub, client, setting.folder))
    except NotRoot as error:
        raise NotHere(str(error)) from None

    def over(unit: float, get: Callable[[Mapping[str, Any]], float]) -> tuple[float, ...]:
        return tuple(get(one) / unit for one in found)

    return [
        Figure(
            what="echo over the overlay / 1.2 ms (prototype)",
            ratios=over(_PROTOTYPE_ECHO_S, lambda one: statistics.median(one["echo_s"])),
            target=at_most(1.0),
        ),
        *(
            Figure(
                what=f"TCP {direction} over the overlay / 480 Mbit/s (prototype)",
                ratios=over(_PROTOTYPE_BPS, itemgetter(f"{direction}_bps")),
                target=at_least(1.0),
            )
            for direction in ("up", "down")
        ),
    ]


def _joined(stack: ExitStack, folder: Path) -> tuple[Namespace, Namespace]:
    """The namespaces of hub and client, once the client has joined."""
    hub, client = (stack.enter_context(Namespace(tag)) for tag in ("bench-hub", "bench-join"))
    veth(hub, "eth0", f"{_HUB}/30", client, "eth0", "10.1.0.2/30")
    secrets = folder / "secrets"
    make_certificates(secrets, 1, [_HUB], days=1)
    command = [sys.executable, "-m", "experiments", "testbed", "overlay"]
    own = ["--secrets", str(secrets)]
    for node, log, role in (
        (hub, "hub.log", ["hub", "--listen", f"{_HUB}:7000"]),
        (client, "join.log", ["join", f"{_HUB}:7000", "--name", "client-0"]),
    ):
        stack.enter_context(_started(node, folder / log, [*command, *role, *own]))
        address = _JOINED if node is hub else "10.99.0.2"
        _await(partial(_has, node, address), log)
    return hub, client


def _has(node: Namespace, address: str) -> bool:
    return address in node.run(["ip", "-br", "address"], 10)


def _measured(hub: Namespace, client: Namespace, folder: Path) -> Mapping[str, Any]:
    log = folder / "ends.log"
    with _started(hub, log, [*_ENDS, "server", _JOINED]):
        _await(lambda: "listening" in log.read_text(), log.name)
        found: Mapping[str, Any] = json.loads(client.run([*_ENDS, "client", _JOINED], _PATIENCE_S))
    return found


@contextmanager
def _started(node: Namespace, log: Path, command: Sequence[str | Path]) -> Iterator[None]:
    with log.open("wb") as file:
        process = node.popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": _ROOT},
        )
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _await(is_ready: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not is_ready():
        if time.monotonic() > deadline_s:
            raise BenchError(f"the process that logs to {what} was not ready within {_PATIENCE_S:g} s")
        time.sleep(_POLL_S)
