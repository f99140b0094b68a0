"""The report's timeline of a testbed's nodes, the one-way delays, and the nodes' pages."""

import json
from pathlib import Path

import pytest

from experiments.report.node_pages import node_pages
from experiments.report.node_timeline import delay_rows, read_messages, shown_round
from experiments.report.plots import node_timeline
from splitfl.core.errors import ConfigError

NODE = {"role": "client", "client": 0, "node": "srn1", "state": "done", "missing": None, "versions": {}}
NODE |= {"started_s": 1.0, "started_within_s": 0.1, "ended_s": None, "ended_within_s": None}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A collected run with one client, three rounds, and a bridge's record."""
    offsets = [{"at_s": 5.0, "ahead_s": 0.1, "within_s": 0.01}]
    tcp = {"sent": 200, "retransmitted": 3}
    counters = {"sent_bytes": 9e6, "sent_packets": 7000, "received_bytes": 1e6, "received_packets": 6000}
    counters |= {"sent_errors": 0, "received_errors": 1, "sent_dropped": 2, "received_dropped": 0}
    own = {
        **NODE,
        "clock_offsets": offsets,
        "network": {"interfaces": {"wlan0": counters}, "tcp_segments": tcp},
    }
    server = {**NODE, "role": "server", "client": None, "node": "gpu", "clock_offsets": []}
    (tmp_path / "nodes.json").write_text(json.dumps([server, own]))
    times = {"bytes_up": 1, "bytes_down": 1, "within_s": 0.01, "client": 0, "kind": "Activation"}
    rows = [
        {**times, "round": number, "sent_s": at_s, "arrived_s": at_s + 0.1}
        | {"answered_s": at_s + 0.4, "received_s": at_s + length_s}
        for number, at_s, length_s in ((-1, 0.0, 9.0), (0, 10.0, 0.5), (1, 20.0, 2.0), (2, 30.0, 1.0))
    ]
    (tmp_path / "messages.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    delays = {"client": 0, "messages": 4, "contradictory": 1, "within_s": 0.01}
    delays |= {"up_s": 0.1, "up_p95_s": 0.2, "down_s": 0.3, "down_p95_s": 0.4}
    (tmp_path / "delays.json").write_text(json.dumps([delays]))
    (tmp_path / "timeline.log").write_text("61.5000 +-0.0100 srn1 client: joins\n")
    (tmp_path / "nodes" / "srn1" / "radio").mkdir(parents=True)
    heard = {"node": 0, "packets": 10, "bad": 1, "snr_db": 12.0, "goodput_bps": 1e6, "retransmissions": 4}
    (tmp_path / "nodes" / "srn1" / "radio" / "link.jsonl").write_text(json.dumps(heard) + "\nother\n")
    return tmp_path


def test_the_round_of_median_length_is_drawn_with_the_margin_of_each_client(run: Path) -> None:
    assert [one.round for one in shown_round(read_messages(run))] == [2]
    picture = node_timeline(run)
    assert "client 0 (srn1)" in picture
    assert "\u00b1 10.0 ms" in picture
    assert "server (gpu)" in picture
    assert "server holds a request" in picture
    assert "seconds since the first message of round 3" in picture


def test_delays_are_shown_with_their_margin(run: Path) -> None:
    (row,) = delay_rows(run, {0: "srn1"})
    assert list(row.values()) == [
        *("0 (srn1)", "4", "100.0 \u00b1 10.0 ms", "200.0 ms", "300.0 \u00b1 10.0 ms", "400.0 ms", "1")
    ]


def test_a_nodes_page_has_its_clock_network_radio_and_log(run: Path) -> None:
    pages = node_pages(run, delay_rows(run, {0: "srn1"}))
    assert list(pages) == ["nodes/srn1/report.html"]  # nothing was collected from gpu
    page = pages["nodes/srn1/report.html"]
    assert page["offsets"] == [("00:00:05.000", "+100.0 \u00b1 10.0 ms")]
    assert page["interfaces"] == [("wlan0", "9 MB", "7,000", "1 MB", "6,000", "1", "2")]
    assert page["retransmitted"] == "3 of 200 TCP segments were retransmitted (1.5 %)."
    assert page["links"] == [("0", "12.0 dB", "10", "10.0 %", "1 Mbit/s", "4")]
    assert page["log"] == ["00:01:01.500 \u00b1 10.0 ms  client: joins"]


def test_without_a_measured_clock_the_page_has_the_logs_as_they_are(run: Path) -> None:
    (run / "timeline.log").unlink()
    (run / "nodes" / "srn1" / "run.log").write_text("first\nsecond\n")
    page = node_pages(run, [])["nodes/srn1/report.html"]
    assert page["log"] == ["run.log: first", "run.log: second"]


def test_a_run_of_one_machine_has_neither_and_damage_is_named(tmp_path: Path) -> None:
    assert node_timeline(tmp_path) == ""
    assert delay_rows(tmp_path, {}) == []
    assert node_pages(tmp_path, []) == {}
    for name, read in (("messages.jsonl", read_messages), ("delays.json", lambda run: delay_rows(run, {}))):
        (tmp_path / name).write_text("[{}]")
        with pytest.raises(ConfigError, match=f"{name} is damaged"):
            read(tmp_path)
