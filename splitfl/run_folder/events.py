"""The events of a run, one line of metrics.jsonl each: one frozen dataclass per event type."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitfl.config import at_least, one_of
from splitfl.core.errors import ConfigError
from splitfl.privacy.leak import Leak
from splitfl.run_folder.rows import build_row


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One optimiser step: the mean training loss of a client's batch."""

    round: int
    step: int
    client: int
    loss: float
    samples: int


@dataclass(frozen=True, kw_only=True, slots=True)
class TransferEvent:
    """One message over the emulated link: real bytes after encoding, times on the virtual clock.

    `energy_j` is the radiated energy, 0 in files of versions that did not record it.
    """

    round: int
    client: int
    direction: str
    kind: str
    payload_bytes: int
    packets: int
    retransmissions: int
    airtime_s: float
    start_s: float
    finish_s: float
    energy_j: float = 0.0
    lost: bool = False

    def __post_init__(self) -> None:
        one_of("direction", self.direction, ("up", "down"))
        at_least("payload_bytes", self.payload_bytes, 0)
        at_least("finish_s", self.finish_s, self.start_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compute:
    """Computation of one side, on the virtual clock; `client` is the client it serves, if it is one."""

    round: int
    side: str
    flops: float
    start_s: float
    finish_s: float
    client: int | None = None

    def __post_init__(self) -> None:
        one_of("side", self.side, ("client", "server"))
        at_least("finish_s", self.finish_s, self.start_s)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundEvent:
    """The end of a round: `finish_s` on the virtual clock, `wall_s` on the wall clock.

    Evaluation metrics are None if they were not measured. `confusion` is
    [[class, predicted, count], ...] after the last round of single-label classification.
    """

    round: int
    train_loss: float
    finish_s: float
    wall_s: float
    eval_loss: float | None = None
    accuracy: float | None = None
    perplexity: float | None = None
    macro_accuracy: float | None = None
    f1: float | None = None
    micro_f1: float | None = None
    entity_f1: float | None = None
    mcc: float | None = None
    pearson: float | None = None
    spearman: float | None = None
    confusion: Sequence[Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryEvent:
    """Peak resident memory of one process, and the base that its libraries occupy."""

    side: str
    peak_bytes: int
    base_bytes: int
    client: int | None = None

    def __post_init__(self) -> None:
        one_of("side", self.side, ("client", "server"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A received update in an asynchronous schedule, with its staleness in versions."""

    round: int
    client: int
    staleness: int

    def __post_init__(self) -> None:
        at_least("staleness", self.staleness, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """The controller's plan for a client from this round on, and its `expected` cost per round.

    `expected` and the limit `allowed` are in the unit of the budget; `fitting` counts the candidate
    plans within the limit.
    """

    round: int
    client: int
    method: str
    cut: int
    rank: int
    codec: str
    expected: float
    allowed: float
    fitting: int


Event = Step | TransferEvent | Compute | RoundEvent | MemoryEvent | Update | Planned | Leak

KINDS: dict[str, Callable[..., Event]] = {
    "step": Step,
    "transfer": TransferEvent,
    "compute": Compute,
    "round": RoundEvent,
    "memory": MemoryEvent,
    "update": Update,
    "plan": Planned,
    "leak": Leak,
}
"""The event type of each value of a line's `event` key."""


@dataclass(frozen=True, kw_only=True)
class RunEvents:
    """All events of a run by type, in the order of the file."""

    steps: tuple[Step, ...] = ()
    transfers: tuple[TransferEvent, ...] = ()
    computes: tuple[Compute, ...] = ()
    rounds: tuple[RoundEvent, ...] = ()
    memories: tuple[MemoryEvent, ...] = ()
    updates: tuple[Update, ...] = ()
    plans: tuple[Planned, ...] = ()
    leaks: tuple[Leak, ...] = ()


def read_events(path: Path) -> tuple[RunEvents, tuple[str, ...]]:
    """The events of this file, and notes about skipped lines.

    A truncated last line (of a killed run) and events of unknown type (of another version) are
    skipped; any other damage raises ConfigError with its line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    found: list[Event] = []
    unknown: Counter[str] = Counter()
    notes: list[str] = []
    for number, line in enumerate(lines, start=1):
        table = _table(line)
        if table is None and number == len(lines):
            notes.append(f"Line {number} of {path.name} is truncated: the run was stopped while writing it.")
        elif table is None:
            raise ConfigError(f"{path}, line {number} is damaged: {line[:60].decode(errors='replace')!r}")
        elif table.get("event") in KINDS:
            found.append(_event(table, f"{path}, line {number}"))
        else:
            unknown[str(table.get("event"))] += 1
    for name, count in unknown.items():
        notes.append(f"{count} events of unknown kind {name!r} were skipped.")
    return _sorted_by_type(found), tuple(notes)


def _table(line: bytes) -> dict[str, Any] | None:
    try:
        table = json.loads(line)
    except ValueError:
        return None
    return table if isinstance(table, dict) else None


def _event(table: dict[str, Any], place: str) -> Event:
    try:
        return build_row(KINDS[table["event"]], table)
    except ConfigError as error:
        raise ConfigError(f"{place}: {table['event']} event: {error}") from None


def _sorted_by_type(found: list[Event]) -> RunEvents:
    return RunEvents(
        steps=tuple(event for event in found if isinstance(event, Step)),
        transfers=tuple(event for event in found if isinstance(event, TransferEvent)),
        computes=tuple(event for event in found if isinstance(event, Compute)),
        rounds=tuple(event for event in found if isinstance(event, RoundEvent)),
        memories=tuple(event for event in found if isinstance(event, MemoryEvent)),
        updates=tuple(event for event in found if isinstance(event, Update)),
        plans=tuple(event for event in found if isinstance(event, Planned)),
        leaks=_newest(event for event in found if isinstance(event, Leak)),
    )


def _newest(found: Iterable[Leak]) -> tuple[Leak, ...]:
    """Without those of an attack that was repeated with the same knowledge."""
    return tuple({(one.round, one.attack, one.metric, one.age): one for one in found}.values())
