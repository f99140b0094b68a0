"""The nodes of a run that was collected from a testbed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from splitfl.core.errors import ConfigError
from testbed.inventory.nodes import SERVER
from testbed.remote.collect import NODES


def node_rows(folder: Path) -> list[dict[str, str]]:
    """A row of texts for each node of the run; none for a run that was not collected from a testbed.

    Times are those of the machine that collected, corrected by the node's measured clock offset.
    Raises ConfigError for a damaged file.
    """
    try:
        return [_row(row) for row in saved_nodes(folder)]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{folder / NODES} is damaged: {error!r}") from None


def saved_nodes(folder: Path) -> list[dict[str, Any]]:
    """The nodes as `collect` saved them; none for another run. Raises ConfigError for a damaged file."""
    path = folder / NODES
    if not path.exists():
        return []
    try:
        return list(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is damaged: {error!r}") from None


def client_nodes(folder: Path) -> dict[int, str]:
    """The node of each client, by its number; none for another run."""
    return {row["client"]: row["node"] for row in saved_nodes(folder) if row.get("client") is not None}


def server_node(folder: Path) -> str:
    """The server's node; empty for another run."""
    return next((row["node"] for row in saved_nodes(folder) if row.get("role") == SERVER), "")


def _row(row: dict[str, Any]) -> dict[str, str]:
    clock = row["clock_offsets"][-1] if row["clock_offsets"] else None
    return {
        "node": row["node"],
        "role": row["role"] if row["client"] is None else f"client {row['client']}",
        "state": f"missing: {row['missing']}" if row["missing"] else row["state"],
        "started": _time(row["started_s"], row["started_within_s"]),
        "ended": _time(row["ended_s"], row["ended_within_s"]),
        "clock": milliseconds(clock["ahead_s"], clock["within_s"]) if clock else "not measured",
        "versions": ", ".join(f"{name} {one}" for name, one in row["versions"].items() if one),
    }


def _time(here_s: float | None, within_s: float | None) -> str:
    if here_s is None or within_s is None:
        return ""
    return f"{time_of_day(here_s)} \u00b1 {1e3 * within_s:.1f} ms"


def time_of_day(unix_s: float) -> str:
    """A Unix time as hours, minutes, seconds and milliseconds, in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%H:%M:%S.%f")[:-3]


def milliseconds(ahead_s: float, within_s: float) -> str:
    """A clock's offset with its uncertainty, both given in seconds."""
    return f"{1e3 * ahead_s:+.1f} \u00b1 {1e3 * within_s:.1f} ms"
