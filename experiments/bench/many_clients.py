"""Up to 200 clients connected to one server process by gRPC: memory per client and time per step.

The clients are threads of a few processes on the same machine, each with its own connection and its own
model, and the steps are small, so that the server's cost per client and message dominates.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil

from experiments.bench.fresh import Fresh, Hand
from experiments.bench.quiet import take_part
from experiments.bench.ratio import Figure, at_most
from experiments.bench.setting import Setting
from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.runtime.screen import Silent
from splitfl.runtime.serve import serve
from splitfl.setup.experiment import Experiment

NUMBERS: Final = (25, 50, 100, 200)
_EACH: Final = 25  # clients in one process
_ROUNDS: Final = 1_000  # the benchmark ends before
_TIMED_ROUNDS: Final = 4
_STEPS: Final = 2
_MIB: Final = 1 << 20
_LINEAR: Final = 1.25


def many_clients(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """A run with each number of clients."""
    small = replace(
        setting,
        folder=setting.folder / "many",
        blocks=3,
        width=64,
        heads=2,
        tokens=16,
        batch=16,
        steps=_STEPS,
    ).prepare()
    numbers = (NUMBERS[0], NUMBERS[-1]) if setting.is_quick else NUMBERS
    found = {}
    for number in numbers:
        progress(f"{number} clients")
        folder = small.folder / str(number)
        folder.mkdir()
        found[number] = _with_clients(replace(small, batch=1), folder, number)
    return _figures(found)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A run's measurements: the server's memory per idle client, and the time of a step with all training.

    `step_s` is wall time, `step_cpu_s` the server's CPU time.
    """

    each_bytes: float
    step_s: float
    step_cpu_s: float


def _figures(found: Mapping[int, _Found]) -> list[Figure]:
    few, many = found[min(found)], found[max(found)]
    figures = []
    for number, one in found.items():
        taken = {
            f"server memory per client, {number} idle clients / 1 MiB": one.each_bytes / _MIB,
            f"steps/s with {number} clients / 1": 1 / one.step_s,
            f"server CPU per step with {number} clients / 1 ms": one.step_cpu_s / 1e-3,
        }
        figures += [Figure(what=what, ratios=(ratio,)) for what, ratio in taken.items()]
    for what, get in _LINEAR_FIGURES.items():
        ratios = (get(many) / get(few),)
        what = f"{what}, {max(found)} clients / {min(found)}"
        figures.append(Figure(what=what, ratios=ratios, target=at_most(_LINEAR)))
    return figures


_LINEAR_FIGURES: Final[Mapping[str, Callable[[_Found], float]]] = {
    "server memory per client": lambda one: one.each_bytes,
    "seconds per step": lambda one: one.step_s,
    "server CPU per step": lambda one: one.step_cpu_s,
}


def _with_clients(setting: Setting, folder: Path, number: int) -> _Found:
    """A run of `number` clients and one more that joins last; the others are idle until then."""
    config = setting.config(rounds=_ROUNDS, clients=number + 1, transport="grpc")
    config = replace(config, fault_tolerance=replace(config.fault_tolerance, checkpoint_every=0))
    with ExitStack() as stack:

        def started(name: str, function: Callable[..., None], *arguments: Any) -> Fresh:
            made = stack.enter_context(Fresh(folder / f"{name}.log", function, *arguments))
            stack.callback(made.kill)
            return made

        server = started("server", _serve, config, folder)
        address, before_bytes = server.take()
        server.go()
        for first in range(0, number, _EACH):
            started(f"clients-{first}", _join, address, range(first, min(first + _EACH, number)))
        idle_bytes = server.take()
        server.go()
        started("last", _join, address, range(number, number + 1))
        step_s, step_cpu_s = server.take()
    return _Found(each_bytes=(idle_bytes - before_bytes) / number, step_s=step_s, step_cpu_s=step_cpu_s)


def _serve(hand: Hand, config: RunConfig, folder: Path) -> None:
    serve(Experiment.of(config), lambda: folder, _CountingScreen(hand, config), controller_for=controller_for)


def _join(hand: Hand, address: str, clients: range) -> None:
    threads = [threading.Thread(target=take_part, args=("grpc", address, client)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class _CountingScreen(Silent):
    """Sends the server's memory, without clients and with all but one; then the times of a step."""

    def __init__(self, hand: Hand, config: RunConfig) -> None:
        self._hand, self._clients = hand, config.federation.clients
        self._steps_of_round = config.federation.clients * config.federation.local_steps
        self._sent_count = 0
        self._began = 0.0, 0.0

    def waiting(self, address: str, missing: list[int]) -> None:
        """See Screen."""
        if self._sent_count == 0 and len(missing) == self._clients:
            self._sent_count = 1
            self._hand((address, _memory_bytes()))
        elif self._sent_count == 1 and len(missing) == 1:
            self._sent_count = 2
            self._hand(_memory_bytes())

    def measured(self, row: Mapping[str, Any]) -> None:
        """See Screen."""
        if row["round"] == 0:
            self._began = time.monotonic(), time.process_time()
        elif row["round"] == _TIMED_ROUNDS:
            steps = _TIMED_ROUNDS * self._steps_of_round
            wall_s, cpu_s = self._began
            self._hand(((time.monotonic() - wall_s) / steps, (time.process_time() - cpu_s) / steps))


def _memory_bytes() -> int:
    return int(psutil.Process(os.getpid()).memory_info().rss)
