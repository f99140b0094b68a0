"""How long a run stalls when a client fails: from the failure until the others' next round begins.

Clients are separate processes that the server reaches over its transport only. One is killed during its
steps, which closes its connection; one is stopped (SIGSTOP), whose connection stays open but silent. The
transport inproc is left out, since there no client can fail alone.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TextIO

from experiments.bench.broker import ports
from experiments.bench.fresh import BenchError, Fresh, Hand
from experiments.bench.quiet import PATIENCE_S, take_part
from experiments.bench.ratio import Figure, at_most
from experiments.bench.setting import Setting
from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.runtime.screen import Silent
from splitfl.runtime.serve import serve
from splitfl.setup.experiment import Experiment

DEADLINE_S: Final = 2.0
_GRACE_S: Final = 1.0
_CLIENTS: Final = 4
_ROUNDS: Final = 100_000  # the benchmark ends before
_INTO_STEP_S: Final = 0.5
_POLL_S: Final = 0.002
_DEATHS: Final = {"killed": (3, signal.SIGKILL), "stopped": (2, signal.SIGSTOP)}


def death(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """For each transport, kills one client and stops another in every run."""
    small = replace(
        setting, folder=setting.folder / "death", blocks=3, width=64, heads=2, tokens=16
    ).prepare()
    with ExitStack() as stack:
        port_of = ports(small.folder, stack)
        taken_s: dict[tuple[str, str], list[float]] = {(name, how): [] for name in port_of for how in _DEATHS}
        for sweep in range(setting.sweeps):
            for name, port in port_of.items():
                progress(name)
                for how, stalled_s in _deaths_of_a_run(small, name, port, sweep):
                    taken_s[name, how].append(stalled_s)
    whole_s = DEADLINE_S + _GRACE_S
    return [
        Figure(
            what=f"{name}, a client {how}: until the others continue / ({DEADLINE_S:g} + {_GRACE_S:g} s)",
            ratios=tuple(one / whole_s for one in taken),
            target=at_most(1.0),
        )
        for (name, how), taken in taken_s.items()
    ]


def _deaths_of_a_run(setting: Setting, name: str, port: int, sweep: int) -> Iterator[tuple[str, float]]:
    folder = setting.folder / f"{name}-{sweep}"
    folder.mkdir()
    with ExitStack() as stack:

        def started(name: str, function: Callable[..., None], *arguments: Any) -> Fresh:
            made = stack.enter_context(Fresh(folder / f"{name}.log", function, *arguments))
            stack.callback(made.kill)
            return made

        server = started("server", _serve, _config(setting, name, port), folder)
        address = server.take()
        server.go()
        clients = [started(f"client-{c}", _join, name, address, c) for c in range(_CLIENTS)]
        events = stack.enter_context((folder / "metrics.jsonl").open(encoding="utf-8"))
        for how, (client, sent) in _DEATHS.items():
            _await(events, partial(_is, "step", client=client))
            time.sleep(_INTO_STEP_S)
            events.seek(0, os.SEEK_END)
            died_s = time.monotonic()
            clients[client].signal(sent)
            missed = _await(events, partial(_is, "absent", client=client))["round"]
            _await(events, partial(_is, "step", after=missed))
            yield how, time.monotonic() - died_s


def _config(setting: Setting, name: str, port: int) -> RunConfig:
    config = setting.config(rounds=_ROUNDS, clients=_CLIENTS, transport=name)
    return replace(
        config,
        transport=replace(config.transport, port=port, timeout_s=DEADLINE_S),
        fault_tolerance=replace(config.fault_tolerance, on_loss="continue", checkpoint_every=0),
    )


def _serve(hand: Hand, config: RunConfig, folder: Path) -> None:
    screen = _HandingScreen(hand)
    serve(Experiment.of(config), lambda: folder, screen, controller_for=controller_for)


def _join(hand: Hand, name: str, address: str, client: int) -> None:
    take_part(name, address, client)


class _HandingScreen(Silent):
    """Sends the server's address once it waits for clients."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._is_sent = False

    def waiting(self, address: str, missing: list[int]) -> None:
        """See Screen."""
        if not self._is_sent:
            self._is_sent = True
            self._hand(address)


def _is(event: str, row: Mapping[str, Any], client: int | None = None, after: int = -1) -> bool:
    return row["event"] == event and client in (None, row["client"]) and row["round"] > after


def _await(events: TextIO, matches: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The next event that matches, read as the run writes it."""
    deadline_s, line = time.monotonic() + PATIENCE_S, ""
    while time.monotonic() < deadline_s:
        line += events.readline()
        if not line.endswith("\n"):
            time.sleep(_POLL_S)
            continue
        row: dict[str, Any] = json.loads(line)
        if matches(row):
            return row
        line = ""
    raise BenchError(f"no matching event within {PATIENCE_S:g} s")
