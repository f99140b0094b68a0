"""Runs a soak: kills and restarts processes by plan, and samples the server's memory."""

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from channel.core.rng import stream
from experiments.soak import nodes
from experiments.soak.plan import Kill, SoakPlan
from experiments.soak.processes import Processes
from experiments.soak.relay import Relay
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import SplitflError
from splitfl.run_folder.create import fill

_POLL_S: Final = 0.02
_MEASURE_S: Final = 0.5
_STALLED_S: Final = 120.0
_SHUTDOWN_S: Final = 30.0
_MOST_ENDED_THEMSELVES: Final = 5


class SoakFailed(SplitflError):
    """A soak did not finish."""


@dataclass(frozen=True, kw_only=True)
class MemorySample:
    """Memory, open files and threads of the server's `life`-th process after `rounds_done` rounds."""

    life: int
    rounds_done: int
    resident_bytes: int
    files: int
    threads: int


@dataclass(kw_only=True)
class SoakRecord:
    """The injected faults and measurements of a finished soak."""

    wall_s: float = 0.0
    kills: int = 0
    deaths: int = 0
    ended_themselves: list[str] = field(default_factory=list)
    cuts: int = 0
    holds: int = 0
    memory: list[MemorySample] = field(default_factory=list)
    left_processes: list[int] = field(default_factory=list)


def run_folder(folder: Path) -> Path:
    """The run folder of the soaked run."""
    return folder / "run"


def server_log(folder: Path) -> Path:
    """The log of all server processes."""
    return folder / "server.log"


def play(plan: SoakPlan, folder: Path, on_round: Callable[[int, SoakRecord], None]) -> SoakRecord:
    """Runs the plan in this folder; raises SoakFailed if a process fails or the run stalls.

    `on_round` is called with the number of completed rounds.
    """
    run, record, began_s = run_folder(folder), SoakRecord(), time.monotonic()
    fill(run, plan.prepare(folder / "setting"))
    nodes.temporary(folder).mkdir()
    os.environ["OMP_NUM_THREADS"] = "1"
    with (
        Processes(folder) as processes,
        Relay(lambda: _port(run), stream(plan.seed, "soak", "relay")) as relay,
    ):
        _Soak(plan, run, processes, relay, record, on_round).run()
        processes.wait(_SHUTDOWN_S)
        record.cuts, record.holds = relay.cuts, relay.holds
        record.left_processes = processes.left()
    record.wall_s = time.monotonic() - began_s
    return record


class _Soak:
    """The loop that injects faults and watches the run."""

    def __init__(
        self,
        plan: SoakPlan,
        run: Path,
        processes: Processes,
        relay: Relay,
        record: SoakRecord,
        on_round: Callable[[int, SoakRecord], None],
    ) -> None:
        self._plan = plan
        self._run = run
        self._processes = processes
        self._relay = relay
        self._record = record
        self._on_round = on_round
        self._checkpoints = CheckpointStore(run / "checkpoint")
        self._deaths = plan.all_deaths()
        self._reached_s: dict[int, float] = {}
        self._restart_s: dict[int | None, float] = {}
        self._rounds_done = 0

    def run(self) -> None:
        """Runs until the server has ended successfully."""
        for node in (None, *range(self._plan.clients)):
            self._start(node)
        progress_s = measured_s = time.monotonic()
        while self._is_running():
            now_s = time.monotonic()
            if self._has_progressed():
                progress_s = now_s
                self._on_round(self._rounds_done, self._record)
            if now_s - progress_s > _STALLED_S:
                self._processes.dump_stacks()
                time.sleep(1.0)
                raise SoakFailed(
                    f"no progress for {_STALLED_S:g} s after {self._rounds_done} rounds; see the logs"
                )
            if now_s - measured_s > _MEASURE_S:
                measured_s = now_s
                self._measure()
            self._kill_and_restart(now_s)
            time.sleep(_POLL_S)

    def _start(self, node: int | None) -> None:
        if node is None:
            self._processes.start(None, nodes.serve, self._run)
            return
        state, life = self._run / "checkpoint" / f"client-{node}", self._processes.lives[node] + 1
        self._processes.start(node, nodes.join, self._relay.port, node, state, self._plan.seed, life)

    def _is_running(self) -> bool:
        if None in self._restart_s:
            return True
        code = self._processes.code(None)
        if code:
            raise SoakFailed(
                f"the server exited with {code}; its last log line: {self._processes.last_log_line(None)}"
            )
        return code is None

    def _has_progressed(self) -> bool:
        rounds = self._checkpoints.rounds()
        before, self._rounds_done = self._rounds_done, rounds[-1] + 1 if rounds else 0
        return before != self._rounds_done

    def _kill_and_restart(self, now_s: float) -> None:
        for node, at_s in list(self._restart_s.items()):
            if now_s >= at_s:
                del self._restart_s[node]
                self._start(node)
        for node, code in self._processes.running().items():
            if node is not None and code is not None:
                self._ended_itself(node, code, now_s)
        for kill in [*self._deaths]:
            if self._is_due(kill, now_s):
                self._deaths.remove(kill)
                self._kill(kill, now_s)

    def _is_due(self, kill: Kill, now_s: float) -> bool:
        if kill.rounds_done > self._rounds_done or kill.client in self._restart_s:
            return False
        return now_s >= self._reached_s.setdefault(kill.rounds_done, now_s) + kill.wait_s

    def _kill(self, kill: Kill, now_s: float) -> None:
        self._processes.kill(kill.client)
        self._restart_s[kill.client] = now_s + kill.away_s
        if kill.client is None:
            self._record.kills += 1
        else:
            self._record.deaths += 1

    def _ended_itself(self, client: int, code: int, now_s: float) -> None:
        """Restarts a client that the server refused, or that had left a server killed since."""
        self._processes.kill(client)
        self._restart_s[client] = now_s + 1.0
        if code == 0:
            return
        message = (
            f"client {client} exited with {code}; its last log line: {self._processes.last_log_line(client)}"
        )
        self._record.ended_themselves.append(message)
        if len(self._record.ended_themselves) > _MOST_ENDED_THEMSELVES + self._plan.deaths:
            raise SoakFailed(message)

    def _measure(self) -> None:
        if None in self._restart_s:
            return
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._processes.pid(None))
            row = MemorySample(
                life=self._processes.lives[None],
                rounds_done=self._rounds_done,
                resident_bytes=server.memory_info().rss,
                files=server.num_fds(),
                threads=server.num_threads(),
            )
            self._record.memory.append(row)


def _port(run: Path) -> int | None:
    """The port of this run's server, None before it has listened."""
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((run / "server.json").read_text(encoding="utf-8"))["port"])
    return None
