"""The report's table of a testbed's nodes."""

import json
from pathlib import Path

import pytest

from experiments.report.nodes import node_rows
from splitfl.core.errors import ConfigError


def test_nodes_are_shown_with_their_clocks_and_margins(tmp_path: Path) -> None:
    assert node_rows(tmp_path) == []
    row = {
        "node": "srn2",
        "role": "client",
        "client": 1,
        "state": "done",
        "versions": {"torch": "2", "peft": None},
    }
    row |= {"clock_offsets": [{"at_s": 0.0, "ahead_s": 0.0123, "within_s": 0.0004}], "missing": None}
    row |= {"started_s": 3661.5, "started_within_s": 0.0004, "ended_s": None, "ended_within_s": None}
    lost = {**row, "node": "srn3", "client": 2, "clock_offsets": [], "missing": "no route"}
    (tmp_path / "nodes.json").write_text(json.dumps([row, lost]))
    first, second = node_rows(tmp_path)
    assert list(first.values()) == [
        *("srn2", "client 1", "done", "01:01:01.500 \u00b1 0.4 ms", "", "+12.3 \u00b1 0.4 ms", "torch 2")
    ]
    assert (second["state"], second["clock"]) == ("missing: no route", "not measured")
    (tmp_path / "nodes.json").write_text("[{}]")
    with pytest.raises(ConfigError, match=r"nodes\.json is damaged"):
        node_rows(tmp_path)
