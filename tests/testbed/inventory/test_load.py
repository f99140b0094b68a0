"""Inventories: roles, defaults, relative paths and refused contents."""

from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from testbed.inventory.load import load, read

FILE = """
port = 50052
ssh_config = "ssh/config"
[nodes.gpu]
role = "server"
wheelhouse = "wheels"
[nodes.srn1]
role = "none"
rf_node = 1
[nodes.srn2]
ssh = "team-srn-002"
radio = "scope"
rf_node = 2
[hooks]
start_channel = "./start.sh"
timeout_s = 60
[scenario]
id = 1009
[reservation]
minutes = 90
team = "splitters"
"""


def test_roles_split_the_nodes_and_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "nodes.toml").write_text(FILE)
    inventory = load(tmp_path / "nodes.toml")
    assert [node.name for node in inventory.nodes] == ["gpu", "srn2", "srn1"]
    assert inventory.server.wheelhouse == str(tmp_path / "wheels")
    assert inventory.clients[0].ssh_config == str(tmp_path / "ssh/config")
    assert inventory.clients[0].address == "srn2"
    assert inventory.listen_port == 50052
    assert inventory.hooks.timeout_s == 60
    assert (inventory.scenario.id, inventory.reservation.team) == (1009, "splitters")


@pytest.mark.parametrize(
    ("nodes", "tables", "complaint"),
    [
        ({"a": {"role": "boss"}}, {}, "unknown nodes.a.role 'boss'; have client, none, server"),
        ({"c": {"role": "server"}}, {}, "one node must be the server, got s, c"),
        ({"s": {"role": "client"}}, {}, "nodes.s.role must be server, since `server` names it"),
        ({"a": {"role": "none"}}, {}, "a server and at least one client"),
        ({"a": {"rf_node": 1}, "b": {"rf_node": 1}}, {}, "nodes.b.rf_node must be its own, got 1"),
        ({"a": {"rf_node": -1}}, {}, "nodes.a.rf_node must be at least 0, got -1"),
        ({"a": {"folder": "/"}}, {}, "nodes.a.folder must be a folder of its own on the node, .*, got '/'"),
        ({"a": {"folder": "../x"}}, {}, "nodes.a.folder must be a folder of its own"),
        ({"a": {"folder": "~/x"}}, {}, "nodes.a.folder must be .* relative to the home folder or absolute"),
        ({"../a": {}}, {}, "a node's name must consist of letters, digits"),
        ({"s": {"data": "x.tsv"}, "a": {}}, {}, "nodes.s.data is for clients; its role is server"),
        ({"a": {}}, {"reservation": {"minutes": -1}}, "reservation.minutes must be at least 0"),
        ({"a": {}}, {"reservation": {"minuts": 1}}, "reservation: unknown 'minuts'; did you mean 'minutes'"),
        ({"a": {}}, {"hooks": {"start_channel": 3}}, "start_channel must be of type str, got 3"),
        ({"a": {}}, {"scenario": {"id": 1.5}}, "id must be of type int, got 1.5"),
        ({"s": {"server_addresses": ["x"]}, "a": {}}, {}, "nodes.s.server_addresses is for clients"),
        ({"a": {"server_addresses": "x"}}, {}, "server_addresses must be a list of strings, got 'x'"),
        ({"a": {"server_addresses": ["x:0"]}}, {}, "x:0"),
        ({"a": {}}, {"listen_port": 0}, "listen_port must lie in 1..65535, got 0"),
    ],
)
def test_bad_contents_are_refused(nodes: dict[str, Any], tables: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read({"server": "s", "nodes": {"s": {}, **nodes}, **tables})
