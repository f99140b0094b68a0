"""A page for each node of a run that was collected from a testbed."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.report.nodes import milliseconds, node_rows, saved_nodes, time_of_day
from experiments.report.writing import write_whole
from splitfl.core.quantities import bytes_text, percent_text, rate_text
from testbed.remote.collect import RADIO, TIMELINE

PAGE = "report.html"
MAX_LINES = 400
"""Last lines of a node's logs that are shown."""


def node_pages(folder: Path, delays: list[dict[str, str]]) -> dict[str, dict[str, Any]]:
    """The values of each node's page, by its path; `delays` are the rows of all clients."""
    lines = _timeline(folder)
    texts = {row["node"]: row for row in node_rows(folder)}
    pages = {}
    for row in saved_nodes(folder):
        name, own = row["node"], folder / "nodes" / row["node"]
        if not own.is_dir():
            continue
        pages[f"nodes/{name}/{PAGE}"] = {
            "node": texts[name],
            "address": row.get("address", ""),
            "transport": row.get("transport", ""),
            "radio": row.get("radio", ""),
            "starts": row.get("starts"),
            "versions": {one: version or "none" for one, version in row["versions"].items()},
            "offsets": [
                (time_of_day(one["at_s"]), milliseconds(one["ahead_s"], one["within_s"]))
                for one in row["clock_offsets"]
            ],
            "delays": [one for one in delays if one["client"].endswith(f"({name})")],
            "interfaces": list(_interfaces(row.get("network"))),
            "retransmitted": _retransmitted(row.get("network")),
            "links": list(_links(own / RADIO)),
            "files": sorted(str(path.relative_to(own)) for path in own.rglob("*") if path.is_file()),
            "is_timed": bool(lines[name]),
            "log": (log := lines[name] or _untimed(own))[-MAX_LINES:],
            "shortened": len(log) > MAX_LINES,
        }
    return pages


def write_page(folder: Path, path: str, page: str) -> Path:
    """Writes a node's page into the run's folder."""
    return write_whole(folder / path, page.encode())


def _timeline(folder: Path) -> defaultdict[str, list[str]]:
    """The lines of timeline.log by node, with the time of day."""
    lines: defaultdict[str, list[str]] = defaultdict(list)
    path = folder / TIMELINE
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        stamp, within, node, rest = line.split(" ", 3)
        lines[node].append(f"{time_of_day(float(stamp))} \u00b1 {1e3 * float(within[2:]):.1f} ms  {rest}")
    return lines


def _untimed(own: Path) -> list[str]:
    """The lines of a node's logs as they are, each after its file's name, as for a batch job's nodes."""
    logs = sorted(own.rglob("*.log"))
    texts = ((log.relative_to(own), log.read_text(errors="replace").splitlines()) for log in logs)
    return [f"{name}: {line}" for name, lines in texts for line in lines]


def _interfaces(network: Mapping[str, Any] | None) -> Iterator[tuple[str, ...]]:
    for name, row in (network or {}).get("interfaces", {}).items():
        if row["sent_packets"] or row["received_packets"]:
            yield (
                name,
                bytes_text(row["sent_bytes"]),
                f"{row['sent_packets']:,}",
                bytes_text(row["received_bytes"]),
                f"{row['received_packets']:,}",
                f"{row['sent_errors'] + row['received_errors']:,}",
                f"{row['sent_dropped'] + row['received_dropped']:,}",
            )


def _retransmitted(network: Mapping[str, Any] | None) -> str:
    if network is None:
        return ""
    segments = network["tcp_segments"]
    share = percent_text(segments["retransmitted"] / max(segments["sent"], 1))
    return f"{segments['retransmitted']:,} of {segments['sent']:,} TCP segments were retransmitted ({share})."


def _links(folder: Path) -> Iterator[tuple[str, ...]]:
    """The far nodes in the records of `splitfl radio bridge`, other files are left to their reader."""
    heard: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for path in sorted(folder.rglob("*.jsonl")):
        for line in path.read_text(errors="replace").splitlines():
            try:
                row = json.loads(line)
                heard[row["node"]].append({key: row[key] for key in _COLUMNS})
            except (ValueError, KeyError, TypeError):
                continue
    for node, rows in sorted(heard.items()):
        packets, bad = (sum(row[key] for row in rows) for key in ("packets", "bad"))
        snr_db = sum(row["snr_db"] * row["packets"] for row in rows) / packets
        goodput_bps = max(row["goodput_bps"] for row in rows)
        yield (
            str(node),
            f"{snr_db:.1f} dB",
            f"{packets:,}",
            percent_text(bad / packets),
            rate_text(goodput_bps),
            f"{rows[-1]['retransmissions']:,}",
        )


_COLUMNS = ("packets", "bad", "snr_db", "goodput_bps", "retransmissions")
