"""Reads the folder of a run, validated, also of a run that was killed.

A folder has config.json (the resolved settings), environment.json (versions and command),
metrics.jsonl (one event per line) and, once the run has ended, summary.json. A missing or damaged
file is one ConfigError that names it. A truncated last line and a missing summary are accepted as
those of a killed run: the rest is read, and `RunRecord.notes` lists what is missing.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import Any

from splitfl.core.errors import ConfigError
from splitfl.core.metrics import METRICS
from splitfl.run_folder.costs import costs_by_round
from splitfl.run_folder.events import MemoryEvent, RoundEvent, RunEvents, read_events
from splitfl.run_folder.overview import overview
from splitfl.run_folder.rows import MAY_DIVERGE, build_row

FINAL_METRICS = tuple(METRICS)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The totals of a run over all clients; `final` holds the last value of every metric.

    The memory is the largest peak of a process of that side, above the base of its libraries; None
    if it was not measured. `live` holds the measurements of a live link, `radio` those of the waveform, None
    without one.
    `codecs` has a row for each kind of message and codec that was measured (bits, entropy, error, time).
    `tracking_failures` has a sentence for each experiment tracker that failed, `leaks` the first measure of
    each attack that probed the run, with that of a constant guess.
    `status` is done, failed, diverged, or unfinished (no summary was written).
    """

    method: str
    model: str
    task: str
    transport: str
    rounds: int
    clients: int
    final: Mapping[str, float]
    bytes_up: int
    bytes_down: int
    packets: int
    retransmissions: int
    airtime_s: float
    virtual_s: float
    wall_s: float
    client_flops: float
    server_flops: float
    status: str
    client_peak_bytes: int | None = None
    server_peak_bytes: int | None = None
    live: Mapping[str, Any] | None = None
    radio: Mapping[str, Any] | None = None
    chosen: Sequence[str] = ()
    tracking_failures: Sequence[str] = ()
    leaks: Mapping[str, Mapping[str, Any]] | None = None
    codecs: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class RunRecord:
    """The contents of a run folder: settings, environment, events, totals, and notes on missing parts."""

    folder: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    events: RunEvents
    summary: Summary
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def clients(self) -> tuple[int, ...]:
        """Every client with an event, in order."""
        events = self.events
        named = {row.client for rows in (events.steps, events.transfers, events.computes) for row in rows}
        return tuple(sorted(client for client in named if client is not None))

    @property
    def metrics(self) -> dict[str, list[Any]]:
        """The metrics at the end of each round, by name; metrics that were never measured are omitted."""
        rounds = self.events.rounds
        names = [field.name for field in fields(RoundEvent) if field.name != "confusion"]
        columns = {name: [getattr(row, name) for row in rounds] for name in names}
        return {name: column for name, column in columns.items() if set(column) != {None}}

    @property
    def costs(self) -> dict[str, list[float]]:
        """What each round cost over all clients, by name: bytes, packets, airtime_s, energy_j and FLOPs."""
        return costs_by_round(self.events)

    @property
    def adapter(self) -> Path | None:
        """The folder of the trained adapter in peft's format; None if it was not written."""
        folder = self.folder / "adapter"
        return folder if folder.is_dir() else None

    def setting(self, path: str) -> Any:
        """The resolved setting of this dotted name, such as `link.up.rate_bps`. Raises ConfigError."""
        value: Any = self.config
        for key in path.split("."):
            if not isinstance(value, Mapping) or key not in value:
                raise ConfigError(f"{self.folder / 'config.json'} has no setting {path}")
            value = value[key]
        return value

    def __repr__(self) -> str:
        final = "".join(
            f", {name}={value:.4g}" for name, value in self.summary.final.items() if name in FINAL_METRICS
        )
        rounds = len(self.events.rounds)
        return f"<RunRecord {str(self.folder)!r}: {self.summary.status} after {rounds} rounds{final}>"

    def _repr_html_(self) -> str:
        """A short table, which notebooks show."""
        rows = [("run", f"{self.name}: {self.summary.status}"), *overview(vars(self.summary))]
        rows += [("folder", str(self.folder)), *(("note", note) for note in self.notes)]
        lines = (f"<tr><th>{escape(name)}</th><td>{escape(text)}</td></tr>" for name, text in rows)
        return f"<table>{''.join(lines)}</table>"


def read_run(folder: Path) -> RunRecord:
    """The run in this folder. Raises ConfigError with the damaged or missing file, and the line."""
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a run folder: it does not exist")
    config = read_table(folder / "config.json")
    environment = read_table(folder / "environment.json")
    events, notes = read_events(folder / "metrics.jsonl")
    summary_file = folder / "summary.json"
    if summary_file.exists():
        summary = _summary(summary_file)
    else:
        summary = _summed(config, events)
        notes += ("There is no summary.json: the run was killed. The totals cover the events that it wrote.",)
    return RunRecord(
        folder=folder, config=config, environment=environment, events=events, summary=summary, notes=notes
    )


def read_table(path: Path) -> dict[str, Any]:
    """The JSON object in this file. Raises ConfigError if it cannot be read or is no object."""
    try:
        table = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}; is {path.parent} a run folder?") from None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path} must hold a JSON object, got a {type(table).__name__}")
    return table


def _summary(path: Path) -> Summary:
    table = read_table(path)
    try:
        summary = build_row(Summary, table)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    summary = replace(summary, final=_with_nan(summary.final))
    numbers = {key: value for key, value in summary.final.items() if isinstance(value, (int, float))}
    if len(numbers) != len(summary.final):
        odd = sorted(set(summary.final) - set(numbers))
        raise ConfigError(f"{path}: final must hold numbers, got {odd[0]} = {summary.final[odd[0]]!r}")
    return summary


def _with_nan(final: Mapping[str, Any]) -> dict[str, Any]:
    return {key: math.nan if value is None and key in MAY_DIVERGE else value for key, value in final.items()}


def _summed(config: Mapping[str, Any], events: RunEvents) -> Summary:
    """The summary computed from the events of a run that was killed."""
    transfers, computes, rounds = events.transfers, events.computes, events.rounds
    return Summary(
        method=_named(config, "method"),
        model=_named(config, "model"),
        task=_named(config, "task"),
        transport=_named(config, "transport"),
        rounds=len(rounds),
        clients=len({step.client for step in events.steps}),
        final=_final(events),
        bytes_up=sum(row.payload_bytes for row in transfers if row.direction == "up"),
        bytes_down=sum(row.payload_bytes for row in transfers if row.direction == "down"),
        packets=sum(row.packets for row in transfers),
        retransmissions=sum(row.retransmissions for row in transfers),
        airtime_s=math.fsum(row.airtime_s for row in transfers),
        virtual_s=max((row.finish_s for rows in (transfers, computes, rounds) for row in rows), default=0.0),
        wall_s=math.fsum(row.wall_s for row in rounds),
        client_flops=math.fsum(row.flops for row in computes if row.side == "client"),
        server_flops=math.fsum(row.flops for row in computes if row.side == "server"),
        status="unfinished",
        client_peak_bytes=_peak(events.memories, "client"),
        server_peak_bytes=_peak(events.memories, "server"),
    )


def _named(config: Mapping[str, Any], table: str) -> str:
    named = config.get(table)
    return str(named["name"]) if isinstance(named, Mapping) and "name" in named else "unknown"


def _final(events: RunEvents) -> dict[str, float]:
    measured = ((key, getattr(row, key)) for row in events.rounds for key in FINAL_METRICS)
    return {key: value for key, value in measured if value is not None}


def _peak(memories: tuple[MemoryEvent, ...], side: str) -> int | None:
    return max((row.peak_bytes for row in memories if row.side == side), default=None)
