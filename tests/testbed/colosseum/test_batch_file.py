"""The JSON file of a batch job: its fields, the public examples, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from testbed.colosseum.batch_file import BatchJob, BatchNode, read_batch
from testbed.colosseum.rules import Rules, parse_rules

# As merif_batch_job.json of colosseum-wiot/colosseum-merif-2023: traffic nodes run against RF nodes.
MERIF: dict[str, Any] = {
    "BatchName": "merif_batch_job",
    "Duration": 300,
    "NodeData": [
        {
            "ImageName": "scope-merif",
            "ModemConfig": "merif_radio_config.conf",
            "RFNode_ID": node,
            "TrafficNode_ID": 8 - node,
            "isGateway": True,
            "node_type": "competitor",
        }
        for node in range(1, 8)
    ],
    "RFScenario": 1009,
    "TrafficScenario": 10090,
}


def batch(size: int = 2, **changes: Any) -> BatchJob:
    members = tuple(
        BatchNode(rf_node=node, image="splitfl", config=f"node-{node}.conf", traffic_node=node)
        for node in range(1, size + 1)
    )
    settings = {"name": "demo", "duration_s": 600, "rf_scenario": 1009, "traffic_scenario": 10090}
    return BatchJob(**{**settings, "nodes": members, **changes})


def written(path: Path, table: Any) -> Path:
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def test_the_public_file_is_read_and_written_again_field_by_field(tmp_path: Path) -> None:
    found = read_batch(written(tmp_path / "batch.json", MERIF), Rules())
    assert found.as_table() == MERIF


def test_numbers_and_booleans_written_as_strings_are_read_and_become_numbers(tmp_path: Path) -> None:
    """The scenarios are strings in config/phase3/scrimmage6/batch.json of drexelwireless/dragonradio."""
    old = {**MERIF, "RFScenario": "1009", "TrafficScenario": "10090", "Duration": "300"}
    old["NodeData"] = [
        {**node, "isGateway": "true", "RFNode_ID": str(node["RFNode_ID"])} for node in MERIF["NodeData"]
    ]
    assert read_batch(written(tmp_path / "old.json", old), Rules()).as_table() == MERIF


def test_loops_are_enabled_as_the_documentations_example_does_or_as_its_table_says(tmp_path: Path) -> None:
    assert "Loopinfo" not in batch().as_table()
    assert batch(loops=2).as_table()["Loopinfo"] == {"Enabled": "True", "NumOfLoops": 2}
    other = batch(loops=2, rules=parse_rules(["loop_enabled=boolean"]))
    assert other.as_table()["Loopinfo"] == {"Enabled": True, "NumOfLoops": 2}
    for one in (batch(loops=2), other):
        assert read_batch(written(tmp_path / "batch.json", one.as_table()), Rules()).loops == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"duration_s": 0}, "Duration must be at least 1, got 0"),
        ({"rf_scenario": 0}, "RFScenario must be at least 1"),
        ({"name": " "}, "BatchName must not be empty"),
        ({"loops": 0}, "NumOfLoops must be at least 1"),
        ({"nodes": ()}, "NodeData must have at least one node"),
        ({"rf_scenario": 6742}, "the number of nodes of RF scenario 6742 is unknown here: give it"),
        ({"rf_scenario": 6742, "scenario_nodes": 1}, "RF scenario 6742 has 1 nodes, but the batch has 2"),
    ],
)
def test_an_invalid_batch_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        batch(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rf_node": 1}, r"RFNode_ID must number the nodes 1 to 2, each once, got \[1, 1\]"),
        ({"rf_node": 3}, r"RFNode_ID must number the nodes 1 to 2, each once, got \[1, 3\]"),
        ({"traffic_node": 1}, r"TrafficNode_ID must number the nodes 1 to 2"),
        ({"image": "split_fl"}, "1 to 30 letters, digits and dashes, got 'split_fl'"),
        ({"image": "a" * 31}, "1 to 30 letters"),
        ({"config": "config/one.conf"}, "without a slash, got 'config/one.conf'"),
        ({"config": ""}, "ModemConfig must be the name"),
        ({"node_type": "robot"}, "unknown node_type 'robot'; did you mean 'bot'. have bot, competitor"),
    ],
)
def test_an_invalid_node_is_refused(changes: dict[str, Any], message: str) -> None:
    first, second = batch().nodes
    with pytest.raises(ConfigError, match=message):
        batch(nodes=(first, replace(second, **changes)))


def test_more_nodes_than_the_scenario_has_are_refused() -> None:
    assert len(batch(10).nodes) == 10
    with pytest.raises(ConfigError, match="RF scenario 1009 has 10 nodes, but the batch has 11"):
        batch(11)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "the batch must be a table"),
        ({**MERIF, "Duratoin": 1}, "unknown key of the batch 'Duratoin'; did you mean 'Duration'?"),
        ({key: MERIF[key] for key in MERIF if key != "TrafficScenario"}, "must have the key TrafficScenario"),
        ({**MERIF, "Duration": True}, "Duration must be a whole number, got True"),
        ({**MERIF, "Loopinfo": {"Enabled": "maybe", "NumOfLoops": 2}}, "Enabled must be true or false"),
        ({**MERIF, "NodeData": [{}]}, "a node of NodeData must have the key RFNode_ID"),
    ],
)
def test_a_damaged_file_is_refused_with_its_path(table: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"batch\.json: .*{message}"):
        read_batch(written(tmp_path / "batch.json", table), Rules())


def test_a_contradiction_of_the_documentation_is_a_setting() -> None:
    rules = parse_rules(["image_name_length=32", "ready_s=600"])
    assert (rules.image_name_length, rules.ready_s) == (32, 600.0)
    assert rules.image_name("a" * 32)
    with pytest.raises(ConfigError, match=r"unknown --rule 'image_name'; did you mean 'image_name_length'\?"):
        parse_rules(["image_name=32"])
    with pytest.raises(ConfigError, match="ready_s must be of type float, got 'soon'"):
        parse_rules(["ready_s=soon"])
    with pytest.raises(ConfigError, match="cleanup_s must be above 0"):
        parse_rules(["cleanup_s=0"])
