"""Measurements of a live link: rows per client and direction, and whether emulation kept up."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from splitfl.core.quantities import percent_text, rate_text, seconds_text
from splitfl.run_folder.rows import build_row


@dataclass(frozen=True, kw_only=True)
class LinkRow:
    """Counters of one client and direction; see `channel.live.switch.Count`."""

    client: int
    direction: str
    offered: int
    dropped: int
    lost: int
    resent: int
    forwarded: int
    forwarded_bytes: int
    busy_s: float
    loss_rate: float
    throughput_bps: float


@dataclass(frozen=True, kw_only=True)
class LatenessRow:
    """How late packets were released; see `channel.live.lateness.Figures`."""

    packets: int
    median_s: float
    p99_s: float
    worst_s: float
    late_share: float
    bad_seconds: int


def link_rows(live: Mapping[str, Any]) -> list[LinkRow]:
    """The rows of a summary's `live`. Raises ConfigError for malformed rows."""
    return [build_row(LinkRow, row) for row in live["links"]]


def kept_up(live: Mapping[str, Any]) -> str:
    """A sentence on whether the emulator kept up with real time."""
    late = build_row(LatenessRow, live["lateness"])
    lateness = (
        f"packets were released {seconds_text(late.median_s)} late at the median, "
        f"{seconds_text(late.p99_s)} at the 99th percentile, {seconds_text(late.worst_s)} at most"
    )
    unread = live["unread"] + live["refused"]
    if not late.bad_seconds and not unread:
        return f"The emulator kept up: {lateness}."
    return (
        f"The emulator could NOT keep up: {unread:,} packets arrived faster than it read them, and in "
        f"{late.bad_seconds} seconds more than a tenth were late; {lateness}. The measurements are worse "
        "than the link."
    )


def in_short(live: Mapping[str, Any], direction: str) -> str:
    """Sum over clients of one direction: `18.9 Mbit/s while busy, 1.0 % of 4,123 packets lost`."""
    rows = [row for row in link_rows(live) if row.direction == direction]
    busy_s = sum(row.busy_s for row in rows)
    rate_bps = 8.0 * sum(row.forwarded_bytes for row in rows) / busy_s if busy_s else 0.0
    decided = sum(row.lost + row.forwarded for row in rows)
    lost = sum(row.lost for row in rows) / decided if decided else 0.0
    dropped = sum(row.dropped for row in rows)
    full = f", {dropped:,} dropped by full queues" if dropped else ""
    return f"{rate_text(rate_bps)} while busy, {percent_text(lost)} of {decided:,} packets lost{full}"


def links_table(live: Mapping[str, Any]) -> Table:
    """All rows as a table for the terminal."""
    columns = (
        "client",
        "direction",
        "offered",
        "dropped",
        "lost",
        "retransmitted",
        "delivered",
        "while busy",
    )
    table = Table(box=None, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "direction" else "right", no_wrap=True)
    for row in link_rows(live):
        counts = (row.offered, row.dropped, row.lost, row.resent, row.forwarded)
        table.add_row(
            str(row.client),
            row.direction,
            *(f"{count:,}" for count in counts),
            rate_text(row.throughput_bps),
        )
    return table
