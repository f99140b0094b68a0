"""The invariants of a soak, each with its result."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from experiments.soak import nodes
from experiments.soak.plan import SoakPlan
from experiments.soak.replay import RunOutput
from experiments.soak.soak import MemorySample, SoakRecord, run_folder, server_log
from splitfl.server.absences import Schedule

_WARM_UP_ROUNDS: Final = 100
_LEAST_ROUNDS: Final = 20
_MOST_GROWTH_BYTES: Final = 16 << 10
"""Per round, after warm-up; a list of all messages would take four times as much."""
_EXPECTED: Final = re.compile(
    r"(config|environment|server|summary)\.json|metrics\.jsonl|adapter/[\w.]+"
    r"|checkpoint/(client-\d+/)?round-\d+\.safetensors"
)


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """An invariant, whether it holds, and the evidence."""

    name: str
    holds: bool
    found: str


def findings(
    plan: SoakPlan, folder: Path, record: SoakRecord, run: RunOutput, simulated: RunOutput
) -> list[Invariant]:
    """Checks all invariants of this soak."""
    return [
        _broken(plan, record),
        _finished(plan, run),
        _absences(plan, folder, run),
        _same(run, simulated),
        _adds_up(run, simulated),
        _processes(record),
        _files(folder),
        _growth(record),
    ]


def _broken(plan: SoakPlan, record: SoakRecord) -> Invariant:
    late = plan.kills - record.kills + plan.deaths - record.deaths
    return Invariant(
        name="faults were injected as planned",
        holds=2 * record.kills >= plan.kills and 2 * record.deaths >= plan.deaths,
        found=f"server killed {record.kills} times, clients {record.deaths} times (of {plan.mortals}); "
        f"{late} kills were still due at the end; "
        f"{len(record.ended_themselves)} refused; {record.cuts} connections cut, {record.holds} delays",
    )


def _finished(plan: SoakPlan, run: RunOutput) -> Invariant:
    rounds = [row["round"] for row in run.rows if row["event"] == "round"]
    is_whole = rounds == list(range(plan.rounds)) and run.summary["status"] == "done"
    return Invariant(
        name="the run finished", holds=is_whole, found=f"{len(rounds)} rounds, {run.summary['status']}"
    )


def _absences(plan: SoakPlan, folder: Path, run: RunOutput) -> Invariant:
    schedule = Schedule.read(run.rows)
    missed = Counter(client for client, _ in schedule.absent)
    found = (
        f"{len(schedule.absent)} rounds without a client; missed by client: {dict(sorted(missed.items()))}"
    )
    if plan.on_loss == "rollback":
        times = server_log(folder).read_text(encoding="utf-8").count("back to the last checkpoint")
        found = f"{found}; {times} rollbacks for {plan.deaths} client kills"
        return Invariant(name="no client missed a round", holds=not schedule.absent, found=found)
    steps = {(row["client"], row["round"]) for row in run.rows if row["event"] == "step"}
    all_rounds = {(client, at) for client in range(plan.clients) for at in range(plan.rounds)}
    is_own = all_rounds - steps <= schedule.absent.keys()
    return Invariant(name="a lost client affects only its own work", holds=is_own, found=found)


def _same(run: RunOutput, simulated: RunOutput) -> Invariant:
    def losses(output: RunOutput) -> list[tuple[int, int, float]]:
        return [(row["round"], row["client"], row["loss"]) for row in output.rows if row["event"] == "step"]

    ours, theirs = losses(run), losses(simulated)
    differ = sum(one != other for one, other in zip(ours, theirs, strict=False)) + abs(
        len(ours) - len(theirs)
    )
    return Invariant(
        name="the run equals the simulation of the same events",
        holds=run.rows == simulated.rows,
        found=f"{len(ours)} losses, {differ} of them different; {len(run.rows)} events, "
        + ("all equal" if run.rows == simulated.rows else "not all equal"),
    )


def _adds_up(run: RunOutput, simulated: RunOutput) -> Invariant:
    sent = [row for row in run.rows if row["event"] == "transfer"]
    up, down = (
        sum(row["payload_bytes"] for row in sent if row["direction"] == direction)
        for direction in ("up", "down")
    )
    is_sum = (up, down) == (run.summary["bytes_up"], run.summary["bytes_down"])
    return Invariant(
        name="the ledger adds up",
        holds=is_sum and run.summary == simulated.summary,
        found=f"{len(sent)} messages, {up:,} bytes up, {down:,} down; the ledger has "
        f"{run.summary['bytes_up']:,} and {run.summary['bytes_down']:,}",
    )


def _processes(record: SoakRecord) -> Invariant:
    found = f"{len(record.left_processes)} left"
    return Invariant(name="no process is left", holds=not record.left_processes, found=found)


def _files(folder: Path) -> Invariant:
    run, temporary = run_folder(folder), nodes.temporary(folder)
    files = [str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()]
    leftover = [name for name in files if not _EXPECTED.fullmatch(name)]
    leftover += [str(path) for path in temporary.rglob("*")]
    checkpoints = Counter(name.rpartition("/")[0] for name in files if name.startswith("checkpoint/"))
    leftover += [f"{count} checkpoints in {name}" for name, count in checkpoints.items() if count > 3]
    found = f"{len(leftover)} left{': ' + ', '.join(leftover[:5]) if leftover else ''}"
    return Invariant(name="no file is left", holds=not leftover, found=found)


def _growth(record: SoakRecord) -> Invariant:
    lives = {row.life for row in record.memory}
    rates = [_growth_per_round([row for row in record.memory if row.life == life]) for life in lives]
    known = [rate for rate in rates if rate is not None]
    most, files = (max(values, default=0) for values in _columns(record.memory))
    growth = (
        f"the server grows by {max(known) / 1024:.1f} KiB per round in the worst of {len(known)} long lives"
        if known
        else f"no server process ran long enough to measure ({_WARM_UP_ROUNDS + _LEAST_ROUNDS} rounds)"
    )
    return Invariant(
        name="memory does not grow",
        holds=max(known, default=0.0) < _MOST_GROWTH_BYTES,
        found=f"{growth}; {most / 1e6:.0f} MB, {files} files",
    )


def _growth_per_round(rows: list[MemorySample]) -> float | None:
    """Bytes per round after warm-up; None for a process that ran too briefly."""
    rows = [row for row in rows if row.rounds_done >= rows[0].rounds_done + _WARM_UP_ROUNDS]
    rounds = [row.rounds_done for row in rows]
    if not rounds or rounds[-1] - rounds[0] < _LEAST_ROUNDS:
        return None
    return float(np.polyfit(rounds, [row.resident_bytes for row in rows], 1)[0])


def _columns(rows: list[MemorySample]) -> tuple[list[int], list[int]]:
    return [row.resident_bytes for row in rows], [row.files for row in rows]
