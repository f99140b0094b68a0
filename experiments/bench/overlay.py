"""The overlay between two namespaces beside the prototype of its design: an echo, and what it carries."""

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

_PROTOTYPE_ECHO_S: Final = 1.2e-3  # measured for the design of this project, as the next
_PROTOTYPE_BPS: Final = 480e6
_HUB, _JOINED = "10.1.0.1", "10.99.0.1"
_PATIENCE_S: Final = 120.0
_POLL_S: Final = 0.05
_ROOT: Final = str(Path(__file__).parents[2])
_ENDS: Final = [sys.executable, "-m", "experiments.bench.overlay_ends"]


def overlay(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """A hub and a client with a cable between them; TCP over the overlay, over and over."""
    try:
        with ExitStack() as stack:
            there, here = _joined(stack, setting.folder)
            found = []
            for sweep in range(setting.sweeps):
                progress(f"sweep {sweep + 1}")
                found.append(_measured(there, here, setting.folder))
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
                what=f"TCP {way} over the overlay / 480 Mbit/s (prototype)",
                ratios=over(_PROTOTYPE_BPS, itemgetter(f"{way}_bps")),
                target=at_least(1.0),
            )
            for way in ("up", "down")
        ),
    ]


def _joined(stack: ExitStack, folder: Path) -> tuple[Namespace, Namespace]:
    """The hub's namespace and the client's, once the client is in."""
    there, here = (stack.enter_context(Namespace(tag)) for tag in ("bench-hub", "bench-join"))
    veth(there, "eth0", f"{_HUB}/30", here, "eth0", "10.1.0.2/30")
    secrets = folder / "secrets"
    make_certificates(secrets, 1, [_HUB], days=1)
    words = [sys.executable, "-m", "experiments", "testbed", "overlay"]
    own = ["--secrets", str(secrets)]
    for node, log, role in (
        (there, "hub.log", ["hub", "--listen", f"{_HUB}:7000"]),
        (here, "join.log", ["join", f"{_HUB}:7000", "--name", "client-0"]),
    ):
        stack.enter_context(_started(node, folder / log, [*words, *role, *own]))
        address = _JOINED if node is there else "10.99.0.2"
        _await(partial(_has, node, address), log)
    return there, here


def _has(node: Namespace, address: str) -> bool:
    return address in node.run(["ip", "-br", "address"], 10)


def _measured(there: Namespace, here: Namespace, folder: Path) -> Mapping[str, Any]:
    log = folder / "ends.log"
    with _started(there, log, [*_ENDS, "server", _JOINED]):
        _await(lambda: "listening" in log.read_text(), log.name)
        found: Mapping[str, Any] = json.loads(here.run([*_ENDS, "client", _JOINED], _PATIENCE_S))
    return found


@contextmanager
def _started(node: Namespace, log: Path, words: Sequence[str | Path]) -> Iterator[None]:
    with log.open("wb") as file:
        process = node.popen(
            words,
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


def _await(is_so: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline_s:
            raise BenchError(f"nothing came of what writes to {what} within {_PATIENCE_S:g} s")
        time.sleep(_POLL_S)
