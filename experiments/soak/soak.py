"""Plays a soak: keeps its processes as the plan has it, and looks at the server's memory meanwhile."""

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
from experiments.soak import lives
from experiments.soak.plan import Death, Plan
from experiments.soak.processes import Processes
from experiments.soak.relay import Relay
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import SplitflError
from splitfl.run_folder.create import fill

_POLL_S: Final = 0.02
_MEASURE_S: Final = 0.5
_STALLED_S: Final = 120.0
_LAST_WORDS_S: Final = 30.0
_MOST_ENDED_THEMSELVES: Final = 5


class SoakFailed(SplitflError):
    """A soak did not come to its end."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What the server's process holds in one of its lives, after so many rounds of the run."""

    life: int
    rounds_done: int
    resident_bytes: int
    files: int
    threads: int


@dataclass(kw_only=True)
class Played:
    """What has happened in a soak that came to its end."""

    wall_s: float = 0.0
    kills: int = 0
    deaths: int = 0
    ended_themselves: list[str] = field(default_factory=list)
    cuts: int = 0
    holds: int = 0
    memory: list[Memory] = field(default_factory=list)
    left_processes: list[int] = field(default_factory=list)


def run_folder(folder: Path) -> Path:
    """Where the run that is soaked leaves what it has to say."""
    return folder / "run"


def server_log(folder: Path) -> Path:
    """What the server's processes said, one after another."""
    return folder / "server.log"


def play(plan: Plan, folder: Path, on_round: Callable[[int, Played], None]) -> Played:
    """Runs the plan in this folder; SoakFailed where anything ends that should not, or nothing goes on.

    `on_round` hears of how many rounds are done.
    """
    run, played, began_s = run_folder(folder), Played(), time.monotonic()
    fill(run, plan.prepare(folder / "setting"))
    lives.temporary(folder).mkdir()
    os.environ["OMP_NUM_THREADS"] = "1"
    with (
        Processes(folder) as processes,
        Relay(lambda: _port(run), stream(plan.seed, "soak", "relay")) as relay,
    ):
        _Soak(plan, run, processes, relay, played, on_round).run()
        processes.wait(_LAST_WORDS_S)
        played.cuts, played.holds = relay.cuts, relay.holds
        played.left_processes = processes.left()
    played.wall_s = time.monotonic() - began_s
    return played


class _Soak:
    """The loop that keeps watch."""

    def __init__(
        self,
        plan: Plan,
        run: Path,
        processes: Processes,
        relay: Relay,
        played: Played,
        on_round: Callable[[int, Played], None],
    ) -> None:
        self._plan = plan
        self._run = run
        self._processes = processes
        self._relay = relay
        self._played = played
        self._on_round = on_round
        self._shelf = CheckpointStore(run / "checkpoint")
        self._deaths = plan.all_deaths()
        self._reached_s: dict[int, float] = {}
        self._back_s: dict[int | None, float] = {}
        self._rounds_done = 0

    def run(self) -> None:
        """Until the server has ended well."""
        for who in (None, *range(self._plan.clients)):
            self._start(who)
        moved_s = measured_s = time.monotonic()
        while self._goes_on():
            now_s = time.monotonic()
            if self._has_moved():
                moved_s = now_s
                self._on_round(self._rounds_done, self._played)
            if now_s - moved_s > _STALLED_S:
                self._processes.tell_where()
                time.sleep(1.0)
                raise SoakFailed(
                    f"nothing moved for {_STALLED_S:g} s after {self._rounds_done} rounds; the logs say where"
                )
            if now_s - measured_s > _MEASURE_S:
                measured_s = now_s
                self._measure()
            self._kill_and_revive(now_s)
            time.sleep(_POLL_S)

    def _start(self, who: int | None) -> None:
        if who is None:
            self._processes.start(None, lives.serve, self._run)
            return
        state, life = self._run / "checkpoint" / f"client-{who}", self._processes.lives[who] + 1
        self._processes.start(who, lives.join, self._relay.port, who, state, self._plan.seed, life)

    def _goes_on(self) -> bool:
        if None in self._back_s:
            return True
        code = self._processes.code(None)
        if code:
            raise SoakFailed(f"the server ended with {code} and said: {self._processes.last_words(None)}")
        return code is None

    def _has_moved(self) -> bool:
        rounds = self._shelf.rounds()
        before, self._rounds_done = self._rounds_done, rounds[-1] + 1 if rounds else 0
        return before != self._rounds_done

    def _kill_and_revive(self, now_s: float) -> None:
        for who, at_s in list(self._back_s.items()):
            if now_s >= at_s:
                del self._back_s[who]
                self._start(who)
        for who, code in self._processes.running().items():
            if who is not None and code is not None:
                self._ended_itself(who, code, now_s)
        for death in [*self._deaths]:
            if self._is_due(death, now_s):
                self._deaths.remove(death)
                self._kill(death, now_s)

    def _is_due(self, death: Death, now_s: float) -> bool:
        if death.rounds_done > self._rounds_done or death.client in self._back_s:
            return False
        return now_s >= self._reached_s.setdefault(death.rounds_done, now_s) + death.wait_s

    def _kill(self, death: Death, now_s: float) -> None:
        self._processes.kill(death.client)
        self._back_s[death.client] = now_s + death.away_s
        if death.client is None:
            self._played.kills += 1
        else:
            self._played.deaths += 1

    def _ended_itself(self, client: int, code: int, now_s: float) -> None:
        """A client comes again that the server has refused, or that had left a server killed since."""
        self._processes.kill(client)
        self._back_s[client] = now_s + 1.0
        if code == 0:
            return
        words = f"client {client} ended with {code} and said: {self._processes.last_words(client)}"
        self._played.ended_themselves.append(words)
        if len(self._played.ended_themselves) > _MOST_ENDED_THEMSELVES + self._plan.deaths:
            raise SoakFailed(words)

    def _measure(self) -> None:
        if None in self._back_s:
            return
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._processes.pid(None))
            row = Memory(
                life=self._processes.lives[None],
                rounds_done=self._rounds_done,
                resident_bytes=server.memory_info().rss,
                files=server.num_fds(),
                threads=server.num_threads(),
            )
            self._played.memory.append(row)


def _port(run: Path) -> int | None:
    """Where the server of this run listens, if it ever has."""
    with suppress(OSError, ValueError, KeyError):
        return int(json.loads((run / "server.json").read_text(encoding="utf-8"))["port"])
    return None
