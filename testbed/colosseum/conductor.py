"""Plays the life of a batch job as Colosseum's documentation describes it, on rehearsed nodes.

After batch_mode_format, radio_command_and_control_c2_api and scenario_looping of
colosseum-wiot/user-documentation.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from testbed.colosseum.batch_file import BatchJob
from testbed.colosseum.rehearsed_node import Call, RehearsedNode
from testbed.colosseum.rules import Rules

_POLL_S: Final = 0.5
_LOGS: Final = ("run.log", "exit_status", "radio.conf")


@dataclass(frozen=True, kw_only=True)
class Played:
    """A node of a rehearsal: seconds from boot to READY (None: never), and each loop's exit status."""

    node: str
    ready_s: float | None
    exit_statuses: tuple[int | None, ...]
    slowest: Call


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """The outcome of a rehearsal: a row for each node, each loop's seconds, and what went wrong."""

    nodes: tuple[Played, ...]
    loops_s: tuple[float, ...]
    problems: tuple[str, ...]


@dataclass(kw_only=True)
class Conductor:
    """Boots the nodes and calls their scripts, within the limits of the batch's rules.

    What Colosseum only waits for is left out: the job goes on as soon as all nodes are READY, their runs
    have ended, or they are FINISHED.
    """

    batch: BatchJob
    nodes: Sequence[RehearsedNode]
    report: Callable[[str], None] = lambda text: None
    _problems: list[str] = field(default_factory=list)

    def play(self) -> Rehearsal:
        """Plays the job to the removal of its containers."""
        with ThreadPoolExecutor(len(self.nodes)) as self._pool:
            ready_s = self._boot()
            loops_s, codes = [], []
            for loop in range(1, self.batch.loops + 1):
                took_s, ended = self._loop(loop)
                loops_s.append(took_s)
                codes.append(ended)
            self.report("removing the containers")
            for node in self.nodes:
                node.kill()
        self._check_scripts()
        self._check_logs()
        return Rehearsal(
            nodes=tuple(
                Played(
                    node=node.name,
                    ready_s=ready_s[node.name],
                    exit_statuses=tuple(ended[number] for ended in codes),
                    slowest=max(node.calls, key=lambda call: call.took_s),
                )
                for number, node in enumerate(self.nodes)
            ),
            loops_s=tuple(loops_s),
            problems=tuple(dict.fromkeys(self._problems)),
        )

    @property
    def _rules(self) -> Rules:
        return self.batch.rules

    def _boot(self) -> dict[str, float | None]:
        """Boots all nodes and polls until all are READY, or the time for it is over."""
        self.report("booting")
        began_s = time.monotonic()
        for node in self.nodes:
            node.boot()
        ready_s: dict[str, float | None] = dict.fromkeys(node.name for node in self.nodes)
        while None in ready_s.values() and time.monotonic() - began_s < self._rules.ready_s:
            for node, (status, _) in zip(self.nodes, self._statuses(), strict=True):
                if status == "READY" and ready_s[node.name] is None:
                    ready_s[node.name] = time.monotonic() - began_s
            time.sleep(_POLL_S)
        for node, (status, info) in zip(self.nodes, self._statuses(), strict=True):
            if status != "READY":
                self._problems.append(
                    f"{node.name} was {status} instead of READY {self._rules.ready_s:g} s after boot "
                    f"({info}); Colosseum may fail the reservation"
                )
        return ready_s

    def _loop(self, loop: int) -> tuple[float, list[int | None]]:
        """One loop: seconds from start.sh to stop.sh, and the nodes' exit statuses."""
        self.report(f"loop {loop} of {self.batch.loops}: start.sh")
        self._call_all("start")
        began_s = time.monotonic()
        while (took_s := time.monotonic() - began_s) < self.batch.duration_s:
            if all(code is not None for code in self._codes(loop)):
                break
            time.sleep(_POLL_S)
        codes = self._codes(loop)
        for node, code in zip(self.nodes, codes, strict=True):
            if code != 0:
                how = f"ended with exit status {code}" if code is not None else "was still running at stop.sh"
                self._problems.append(f"{node.name}: the run of loop {loop} {how}")
        self.report(f"loop {loop} of {self.batch.loops}: stop.sh")
        self._call_all("stop")
        self._await_end(loop)
        return took_s, codes

    def _await_end(self, loop: int) -> None:
        wanted = "FINISHED" if loop == self.batch.loops else "READY"
        deadline_s = time.monotonic() + self._rules.cleanup_s
        while (statuses := self._statuses()) and time.monotonic() < deadline_s:
            if all(status == wanted for status, _ in statuses):
                return
            time.sleep(_POLL_S)
        for node, (status, info) in zip(self.nodes, statuses, strict=True):
            if status != wanted:
                self._problems.append(
                    f"{node.name} was {status} instead of {wanted} {self._rules.cleanup_s:g} s after stop.sh "
                    f"of loop {loop} ({info})"
                )

    def _statuses(self) -> list[tuple[str, str]]:
        return list(self._pool.map(lambda node: node.status(self._rules.script_s), self.nodes))

    def _codes(self, loop: int) -> list[int | None]:
        return list(self._pool.map(lambda node: node.exit_status(loop, self._rules.script_s), self.nodes))

    def _call_all(self, script: str) -> None:
        list(self._pool.map(lambda node: node.call(script, self._rules.script_s), self.nodes))

    def _check_logs(self) -> None:
        """What Colosseum would have copied from /logs by the removal of the containers."""
        for node in self.nodes:
            for loop in range(1, self.batch.loops + 1):
                names = [f"loop-{loop}/{name}" for name in _LOGS]
                if missing := [name for name in names if not (node.logs / name).exists()]:
                    self._problems.append(f"{node.name}: /logs lacks {', '.join(missing)}")

    def _check_scripts(self) -> None:
        for node in self.nodes:
            for call in node.calls:
                if call.code is None:
                    self._problems.append(
                        f"{node.name}: {call.script}.sh did not return within {self._rules.script_s:g} s"
                    )
                elif call.code:
                    self._problems.append(f"{node.name}: {call.script}.sh ended with exit status {call.code}")
