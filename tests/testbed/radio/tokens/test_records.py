"""Records of the radios of a run with processes: what clients send is checked before it is kept."""

import copy
import json
from typing import Any

import pytest

from splitfl.core.errors import WireError
from splitfl.transport.radio.spec import RadioSettings
from testbed.radio.tokens.records import RECORD, Record, joined, latest_rows, packed, unpacked


def record(at: int, others: list[int], seconds: float) -> Record:
    far = {"packets": 3, "snr_db": 12.0, "arq": {"sent": 4}, "last": None}
    row = {"at": at, "time_s": seconds, "wall_s": 2.0, "node": others[0], "snr_db": 12.0, "packets": 3}
    return {
        "wall_s": 2.5,
        "final": {"seconds": seconds, "nodes": {str(one): far for one in others}},
        "rows": [{**row, "bad": 1, "goodput_bps": 1e5, "retransmissions": 0}],
    }


SERVER = record(0, [1, 2], 9.0)


def test_a_record_arrives_as_it_was() -> None:
    client = record(2, [0], 8.0)
    client["final"]["nodes"]["0"] = {**client["final"]["nodes"]["0"], "last": {"points": []}}
    assert unpacked(packed(client), 1, SERVER) == client


def changed(*path: str, to: Any) -> bytes:
    value = copy.deepcopy(record(2, [0], 8.0))
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return RECORD + json.dumps(value).encode()


@pytest.mark.parametrize(
    "request_",
    [
        RECORD + b"[]",
        changed("rows", to={}),
        changed("rows", to=[7]),
        changed("rows", to=[{"at": 0}]),
        changed("wall_s", to="long"),
        changed("wall_s", to=float("nan")),
        changed("final", "nodes", to={}),
        changed("final", "nodes", "0", "packets", to=None),
        changed("more", to=1),
    ],
)
def test_a_record_of_another_form_is_refused(request_: bytes) -> None:
    with pytest.raises(WireError, match="client 1 sent a record of its radio of another form"):
        unpacked(request_, 1, SERVER)


@pytest.mark.parametrize("body", [b"{", b"\xff", b"[" * 100_000])
def test_a_record_that_is_no_json_is_refused(body: bytes) -> None:
    with pytest.raises(WireError, match="client 0 sent a record of its radio that is no JSON"):
        unpacked(RECORD + body, 0, SERVER)


def test_records_are_joined_in_the_order_of_nodes_and_rows_in_that_of_time() -> None:
    clients = {1: record(2, [0], 8.0), 0: record(1, [0], 9.5)}
    whole = joined(RadioSettings(air_port=2000), 5e5, SERVER, clients)
    assert [node["seconds"] for node in whole["nodes"]] == [9.0, 9.5, 8.0]
    assert [row["at"] for row in whole["rows"]] == [2, 0, 1]
    assert whole["air"] == {"rate_hz": 5e5, "seconds": 9.0, "wall_s": 2.5}
    assert latest_rows([*whole["rows"], {**whole["rows"][0], "snr_db": 3.0}])[0]["snr_db"] == 3.0
