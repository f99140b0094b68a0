"""What must hold when a soak is over, each with what was found."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from experiments.soak import lives
from experiments.soak.plan import Plan
from experiments.soak.replay import Told
from experiments.soak.soak import Memory, Played, run_folder, server_log
from splitfl.server.absences import Schedule

_WARM_UP_ROUNDS: Final = 100
_LEAST_ROUNDS: Final = 20
_MOST_GROWTH_BYTES: Final = 16 << 10
"""A round, once the process has warmed up: a list of all messages takes four times as much."""
_EXPECTED: Final = re.compile(
    r"(config|environment|server|summary)\.json|metrics\.jsonl|adapter/[\w.]+"
    r"|checkpoint/(client-\d+/)?round-\d+\.safetensors"
)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that must hold."""

    name: str
    holds: bool
    found: str


def findings(plan: Plan, folder: Path, played: Played, run: Told, simulated: Told) -> list[Finding]:
    """Everything that must hold of this soak."""
    return [
        _broken(plan, played),
        _finished(plan, run),
        _absences(plan, folder, run),
        _same(run, simulated),
        _adds_up(run, simulated),
        _processes(played),
        _files(folder),
        _growth(played),
    ]


def _broken(plan: Plan, played: Played) -> Finding:
    late = plan.kills - played.kills + plan.deaths - played.deaths
    return Finding(
        name="it broke as planned",
        holds=2 * played.kills >= plan.kills and 2 * played.deaths >= plan.deaths,
        found=f"server killed {played.kills} times, clients {played.deaths} times (of {plan.mortals}); "
        f"{late} were due when it was over; "
        f"{len(played.ended_themselves)} refused; {played.cuts} connections cut, {played.holds} held up",
    )


def _finished(plan: Plan, run: Told) -> Finding:
    rounds = [row["round"] for row in run.rows if row["event"] == "round"]
    is_whole = rounds == list(range(plan.rounds)) and run.summary["status"] == "done"
    return Finding(name="it finished", holds=is_whole, found=f"{len(rounds)} rounds, {run.summary['status']}")


def _absences(plan: Plan, folder: Path, run: Told) -> Finding:
    schedule = Schedule.read(run.rows)
    missed = Counter(client for client, _ in schedule.absent)
    found = f"{len(schedule.absent)} rounds of clients {dict(sorted(missed.items()))} went on without them"
    if plan.on_loss == "rollback":
        times = server_log(folder).read_text(encoding="utf-8").count("back to the last checkpoint")
        found = f"{found}; all went back {times} times for {plan.deaths} deaths of clients"
        return Finding(name="nobody missed a round", holds=not schedule.absent, found=found)
    steps = {(row["client"], row["round"]) for row in run.rows if row["event"] == "step"}
    everybody = {(client, at) for client in range(plan.clients) for at in range(plan.rounds)}
    is_own = everybody - steps <= schedule.absent.keys()
    return Finding(name="a lost client cost its own work only", holds=is_own, found=found)


def _same(run: Told, simulated: Told) -> Finding:
    def losses(told: Told) -> list[tuple[int, int, float]]:
        return [(row["round"], row["client"], row["loss"]) for row in told.rows if row["event"] == "step"]

    ours, theirs = losses(run), losses(simulated)
    differ = sum(one != other for one, other in zip(ours, theirs, strict=False)) + abs(
        len(ours) - len(theirs)
    )
    return Finding(
        name="it is the simulation of the same events",
        holds=run.rows == simulated.rows,
        found=f"{len(ours)} losses, {differ} of them others; {len(run.rows)} events, "
        + ("all the same" if run.rows == simulated.rows else "not all the same"),
    )


def _adds_up(run: Told, simulated: Told) -> Finding:
    sent = [row for row in run.rows if row["event"] == "transfer"]
    up, down = (
        sum(row["payload_bytes"] for row in sent if row["direction"] == way) for way in ("up", "down")
    )
    is_sum = (up, down) == (run.summary["bytes_up"], run.summary["bytes_down"])
    return Finding(
        name="the ledger adds up",
        holds=is_sum and run.summary == simulated.summary,
        found=f"{len(sent)} messages, {up:,} bytes up, {down:,} down; the ledger has "
        f"{run.summary['bytes_up']:,} and {run.summary['bytes_down']:,}",
    )


def _processes(played: Played) -> Finding:
    found = f"{len(played.left_processes)} left"
    return Finding(name="no process is left", holds=not played.left_processes, found=found)


def _files(folder: Path) -> Finding:
    run, temporary = run_folder(folder), lives.temporary(folder)
    files = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    left = [name for name in files if not _EXPECTED.fullmatch(name)]
    left += [str(path) for path in temporary.rglob("*")]
    kept = Counter(name.rpartition("/")[0] for name in files if name.startswith("checkpoint/"))
    left += [f"{count} checkpoints in {name}" for name, count in kept.items() if count > 3]
    found = f"{len(left)} left{': ' + ', '.join(left[:5]) if left else ''}"
    return Finding(name="no file is left", holds=not left, found=found)


def _growth(played: Played) -> Finding:
    lives = {row.life for row in played.memory}
    slopes = [_slope([row for row in played.memory if row.life == life]) for life in lives]
    known = [slope for slope in slopes if slope is not None]
    most, files = (max(values, default=0) for values in _most(played.memory))
    told = (
        f"the server grows by {max(known) / 1024:.1f} KiB a round in the worst of {len(known)} long lives"
        if known
        else f"no life of the server was long enough to tell ({_WARM_UP_ROUNDS + _LEAST_ROUNDS} rounds)"
    )
    return Finding(
        name="memory does not grow",
        holds=max(known, default=0.0) < _MOST_GROWTH_BYTES,
        found=f"{told}; {most / 1e6:.0f} MB, {files} files",
    )


def _slope(rows: list[Memory]) -> float | None:
    """Bytes a round over a life, once it has warmed up; None for one that was too short to tell."""
    rows = [row for row in rows if row.rounds_done >= rows[0].rounds_done + _WARM_UP_ROUNDS]
    rounds = [row.rounds_done for row in rows]
    if not rounds or rounds[-1] - rounds[0] < _LEAST_ROUNDS:
        return None
    return float(np.polyfit(rounds, [row.resident_bytes for row in rows], 1)[0])


def _most(rows: list[Memory]) -> tuple[list[int], list[int]]:
    return [row.resident_bytes for row in rows], [row.files for row in rows]
