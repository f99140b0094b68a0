"""What the nodes of a run recorded of the waveform: clients send theirs to the server before they leave.

A row has the figures of an interval of time, of packets from `node` as the node `at` received them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from splitfl.core.errors import WireError
from splitfl.core.json_text import dumps
from splitfl.transport.radio.spec import RadioSettings

RECORD: Final = b"\x00radio\x03"
"""A request with a client's record, and its reply."""

Record = dict[str, Any]
"""Of a `TokenNode`."""

_ROW: Final = dict.fromkeys(
    ("at", "time_s", "wall_s", "node", "snr_db", "packets", "bad", "goodput_bps", "retransmissions"), 0.0
)
_OPTIONAL: Final = ("last", "snr_db")
"""None before a first packet."""


def latest_rows(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last row of each link."""
    return list({(row["at"], row["node"]): row for row in rows}.values())


def packed(record: Record) -> bytes:
    """The request with this record."""
    return RECORD + dumps(record).encode()


def unpacked(request: bytes, client: int, own: Record) -> Record:
    """The inverse of `packed`; raises WireError for a record of another form than the server's `own`."""
    try:
        record = json.loads(request.removeprefix(RECORD))
    except (ValueError, RecursionError):
        raise WireError(f"client {client} sent a record of its radio that is no JSON") from None
    final = own["final"]
    form = {**own, "final": {**final, "nodes": {"0": final["nodes"][str(client + 1)]}}}
    if not (_has_form(record, form) and all(_has_form(row, _ROW) for row in record["rows"])):
        raise WireError(f"client {client} sent a record of its radio of another form than the server's")
    return dict(record)


def joined(own: RadioSettings, rate_hz: float, server: Record, clients: Mapping[int, Record]) -> Record:
    """The record of a run: all nodes in order, and the rows of all, each with the node that it is of."""
    records = [server, *(clients[client] for client in sorted(clients))]
    rows = [row for record in records for row in record["rows"]]
    return {
        "scenario": f"the air at port {own.air_port}",
        "mcs": own.mcs,
        "air": {"rate_hz": rate_hz, "seconds": server["final"]["seconds"], "wall_s": server["wall_s"]},
        "nodes": [record["final"] for record in records],
        "rows": sorted(rows, key=lambda row: row["time_s"]),
    }


def _has_form(value: Any, form: Any) -> bool:
    """Whether a value has the keys, lists and finite numbers of the form."""
    if isinstance(form, dict):
        return (
            isinstance(value, dict)
            and value.keys() == form.keys()
            and all(
                (key in _OPTIONAL and None in (one, value[key])) or _has_form(value[key], one)
                for key, one in form.items()
            )
        )
    if isinstance(form, list):
        return isinstance(value, list)
    return isinstance(value, int | float) and math.isfinite(value)
