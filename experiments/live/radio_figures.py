"""Measurements of a run over the waveform: totals, rows per node, and sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from channel.iq.pace import REAL_TIME_SHARE
from splitfl.core.quantities import percent_text, rate_text, seconds_text
from splitfl.run_folder.rows import build_row

RECORD = "radio.json"
"""The file in a run's folder with what each node counted, by interval and in all."""

_RECENT_S = 2.5
"""Figures of a link that has been silent for longer, in seconds of samples, are not live any more."""


@dataclass(frozen=True, kw_only=True)
class RadioRow:
    """Radio packets from node `source` as node `target` received them; None without one.

    `packets` have a header that arrived, `bad` of them payloads with errors. `sent` packets of ARQ took
    `retransmissions` further attempts; `dropped` met a full queue, and `given_up` never arrived.
    """

    source: int
    target: int
    packets: int
    bad: int
    snr_db: float | None
    delivered_bytes: int
    sent: int
    retransmissions: int
    given_up: int
    dropped: int

    @property
    def client(self) -> int:
        """The client at one end."""
        return max(self.source, self.target) - 1

    @property
    def direction(self) -> str:
        """`up` to the server, `down` from it."""
        return "down" if self.source == 0 else "up"

    @property
    def error_rate(self) -> float:
        """The share of packets whose payload had errors."""
        return self.bad / self.packets if self.packets else 0.0


def totals(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What a summary has of the measurements of a `RadioLink`, or of the record of a transport with radios.

    Only the first has figures of the air's pace, and only processes with an air of their own a `wall_s`.
    """
    air = measured["air"]
    return {
        "scenario": measured["scenario"],
        "mcs": measured["mcs"],
        "rate_hz": air["rate_hz"],
        "seconds": air["seconds"],
        **({"wall_s": air["wall_s"]} if "wall_s" in air else {}),
        **(_pace(measured) if "slips" in air else {}),
        "airtime_s": [node["sent_s"] for node in measured["nodes"]],
        "links": [vars(row) for row in _links(measured)],
    }


def _pace(measured: Mapping[str, Any]) -> dict[str, Any]:
    slips = measured["air"]["slips"]
    return {
        "slipped_s": slips["slipped_s"],
        "late_blocks": slips["late_blocks"],
        "worst_late_s": slips["worst_late_s"],
        "late_bursts": sum(node["late_bursts"] for node in measured["nodes"]),
        "overflows": sum(node["radio"]["overflows"] for node in measured["nodes"]),
    }


def _links(measured: Mapping[str, Any]) -> list[RadioRow]:
    nodes = measured["nodes"]
    pairs = [(node, 0) for node in range(1, len(nodes))] + [(0, node) for node in range(1, len(nodes))]
    rows = []
    for source, target in pairs:
        sent, heard = nodes[source]["nodes"][str(target)]["arq"], nodes[target]["nodes"][str(source)]
        received = {key: heard[key] for key in ("packets", "bad", "snr_db", "delivered_bytes")}
        attempts = {key: sent[key] for key in ("sent", "retransmissions", "given_up", "dropped")}
        rows.append(RadioRow(source=source, target=target, **received, **attempts))
    return rows


def radio_rows(radio: Mapping[str, Any]) -> list[RadioRow]:
    """The rows of a summary's `radio`. Raises ConfigError for malformed rows."""
    return [build_row(RadioRow, row) for row in radio["links"]]


def in_real_time(radio: Mapping[str, Any]) -> str:
    """A sentence on whether samples passed at their rate, or only while there was a message."""
    if "wall_s" not in radio:
        return f"Samples passed only while there was a message: {seconds_text(radio['seconds'])} in all."
    passed = f"{seconds_text(radio['seconds'])} of samples took {seconds_text(radio['wall_s'])}"
    if "slipped_s" not in radio:
        return f"{passed}; whether its clock slipped is said by the air, in its own process."
    if radio["slipped_s"] <= REAL_TIME_SHARE * (radio["seconds"] + radio["slipped_s"]):
        return f"The waveform ran in real time: {passed}."
    return (
        f"The waveform did NOT run in real time: {passed}, and the clock slipped by "
        f"{seconds_text(radio['slipped_s'])} in {radio['late_blocks']:,} late blocks. Wall times are those "
        "of this machine, not of the radio."
    )


def in_words(radio: Mapping[str, Any], direction: str) -> str:
    """One direction over all clients: SNR, errors, retransmissions."""
    rows = [row for row in radio_rows(radio) if row.direction == direction]
    packets, bad = sum(row.packets for row in rows), sum(row.bad for row in rows)
    if not packets:
        return "no packets"
    snr_db = sum(row.snr_db * row.packets for row in rows if row.snr_db is not None) / packets
    return (
        f"SNR {snr_db:.1f} dB, {bad:,} of {packets:,} packets with errors ({percent_text(bad / packets)}), "
        f"{sum(row.retransmissions for row in rows):,} retransmissions, "
        f"{sum(row.given_up for row in rows):,} given up"
    )


def live_figures(latest: Sequence[Mapping[str, Any]]) -> str:
    """`up 12.1 dB, 310 kbit/s; down 14.0 dB, 120 kbit/s` of the last rows of all links."""
    now_s = max((row["time_s"] for row in latest), default=0.0)
    recent = [row for row in latest if row["time_s"] > now_s - _RECENT_S]
    words = []
    for direction, rows in (
        ("up", [row for row in recent if row["at"] == 0]),
        ("down", [row for row in recent if row["at"] != 0]),
    ):
        if rows:
            snr_db = sum(row["snr_db"] for row in rows) / len(rows)
            goodput = rate_text(sum(row["goodput_bps"] for row in rows))
            words.append(f"{direction} {snr_db:.1f} dB, {goodput}")
    return "; ".join(words)
