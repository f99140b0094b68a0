"""The report's table of clients: a row for each, or for many the quantiles of each column.

The rows of many clients are in `clients.csv` beside the report.
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.report.tally import ClientTally
from experiments.report.writing import write_whole

MAX_ROWS = 100
"""Maximum number of clients that have a row of their own in the report."""

FILE = "clients.csv"

COLUMNS = {
    "samples seen": "samples",
    "bytes up": "bytes_up",
    "bytes down": "bytes_down",
    "airtime": "airtime_s",
    "retransmission rate": "retransmission_rate",
    "messages lost": "lost_messages",
    "mean loss, first round": "first_loss",
    "mean loss, last round": "last_loss",
}
"""Heading -> property of `ClientTally`, in the order of the table."""

_QUANTILES = {"least": 0.0, "5th percentile": 0.05, "median": 0.5, "95th percentile": 0.95, "most": 1.0}


def client_rows(clients: Sequence[ClientTally]) -> dict[str, dict[str, Any]]:
    """The table: label -> property -> value; None where a value does not exist."""
    if len(clients) <= MAX_ROWS:
        return {str(row.client): {name: getattr(row, name) for name in COLUMNS.values()} for row in clients}
    ordered = {
        name: sorted(value for row in clients if (value := getattr(row, name)) is not None)
        for name in COLUMNS.values()
    }
    return {
        label: {name: _at(values, share) for name, values in ordered.items()}
        for label, share in _QUANTILES.items()
    }


def write_clients(folder: Path, clients: Sequence[ClientTally]) -> str | None:
    """Writes `clients.csv` if there are too many for the table; returns its name, or None."""
    if len(clients) <= MAX_ROWS:
        return None
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("client", *COLUMNS.values()))
    for row in clients:
        rows.writerow((row.client, *(getattr(row, name) for name in COLUMNS.values())))
    write_whole(folder / FILE, text.getvalue().encode())
    return FILE


def _at(ordered: Sequence[float], share: float) -> float | None:
    """The value below which this share of the others lies, one of those that occur."""
    return ordered[round(share * (len(ordered) - 1))] if ordered else None
