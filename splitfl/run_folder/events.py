"""What happened in a run, line by line of its metrics.jsonl: one frozen row type per event."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitfl.config import at_least, one_of
from splitfl.core.errors import ConfigError
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

    `energy_j` is what was radiated, 0 in a file from before it was written.
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
    """Work of one side, on the virtual clock; `client` says for whom the server works, where for one."""

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
class Round:
    """The end of a round: `finish_s` on the virtual clock, `wall_s` on the real one.

    The held-out figures are there only where they were measured, and `confusion` ([class, predicted,
    count]) after the last round of a run with one class a sample.
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
    mcc: float | None = None
    pearson: float | None = None
    spearman: float | None = None
    confusion: Sequence[Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Peak resident memory of one process, above the base that its libraries take by themselves."""

    side: str
    peak_bytes: int
    base_bytes: int
    client: int | None = None

    def __post_init__(self) -> None:
        one_of("side", self.side, ("client", "server"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Update:
    """A client's work where all go at their own pace, and how old the version was from which it began."""

    round: int
    client: int
    staleness: int

    def __post_init__(self) -> None:
        at_least("staleness", self.staleness, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Planned:
    """What the controller told a client to do from this round on, and what it expected that to spend in one.

    Of `fitting` plans that were within what was `allowed`, in the budget's unit; 0: none was.
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


Event = Step | TransferEvent | Compute | Round | Memory | Update | Planned

KINDS: dict[str, Callable[..., Event]] = {
    "step": Step,
    "transfer": TransferEvent,
    "compute": Compute,
    "round": Round,
    "memory": Memory,
    "update": Update,
    "plan": Planned,
}
"""The value of a line's `event` key -> what that line is."""


@dataclass(frozen=True, kw_only=True)
class Events:
    """Everything that happened, by type and in the order of the file."""

    steps: tuple[Step, ...] = ()
    transfers: tuple[TransferEvent, ...] = ()
    computes: tuple[Compute, ...] = ()
    rounds: tuple[Round, ...] = ()
    memories: tuple[Memory, ...] = ()
    updates: tuple[Update, ...] = ()
    plans: tuple[Planned, ...] = ()


def read_events(path: Path) -> tuple[Events, tuple[str, ...]]:
    """The events of this file, and a sentence about everything that was passed over.

    A last line that is cut short belongs to a run that was killed while writing it, an event
    of unknown name to another version; any other damage raises ConfigError with its line.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    found: list[Event] = []
    strangers: Counter[str] = Counter()
    notes: list[str] = []
    for number, line in enumerate(lines, start=1):
        table = _table(line)
        if table is None and number == len(lines):
            notes.append(f"Line {number} of {path.name} is cut short: the run was stopped while writing it.")
        elif table is None:
            raise ConfigError(f"{path}, line {number} is damaged: {line[:60].decode(errors='replace')!r}")
        elif table.get("event") in KINDS:
            found.append(_event(table, f"{path}, line {number}"))
        else:
            strangers[str(table.get("event"))] += 1
    for name, count in strangers.items():
        notes.append(f"{count} events of unknown kind {name!r} were passed over.")
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


def _sorted_by_type(found: list[Event]) -> Events:
    return Events(
        steps=tuple(event for event in found if isinstance(event, Step)),
        transfers=tuple(event for event in found if isinstance(event, TransferEvent)),
        computes=tuple(event for event in found if isinstance(event, Compute)),
        rounds=tuple(event for event in found if isinstance(event, Round)),
        memories=tuple(event for event in found if isinstance(event, Memory)),
        updates=tuple(event for event in found if isinstance(event, Update)),
        plans=tuple(event for event in found if isinstance(event, Planned)),
    )
