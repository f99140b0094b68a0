"""The states of nodes: before a deployment, before a run, after a reboot, and out of reach."""

import json
import sys
from pathlib import Path

import pytest

from testbed.errors import NodesFailed
from testbed.inventory.nodes import SERVER, Node
from testbed.remote import node_agent
from testbed.remote.fleet import Fleet
from testbed.remote.status import statuses


def deploy(node: Node, **program: object) -> None:
    """A deployed folder; `program` is the record of the node's program, if it has run one."""
    node_agent.prepare(node.folder, "1", "a")
    node_agent.activate(node.folder, "1", {})
    if program:
        run = Path(node.folder) / "run"
        (run / f"{node.role}.json").write_text(json.dumps(program))
        (run / f"{node.role}.log").write_text("1.5 loading\n2.5 Error: no memory\n")


def test_states_are_told_apart_and_unreachable_nodes_have_a_reason(tmp_path: Path) -> None:
    def node(name: str, python: str = sys.executable, role: str = "client") -> Node:
        return Node(name=name, folder=str(tmp_path / name), python=python, role=role)

    server = node("server", role=SERVER)
    new, ready, lost, failed = map(node, ("new", "ready", "lost", "failed"))
    ended = {"pid": 1, "ticks": "", "boot": "", "started_s": 1.0}
    deploy(server, **ended, code=0, ended_s=2.0)
    deploy(ready)
    deploy(lost, **ended)
    deploy(failed, **ended, code=1, ended_s=2.0)
    with Fleet([server, new, ready, lost, failed, node("away", python="/no/python")]) as fleet:
        found = [(one.node.name, one.state, one.detail) for one in statuses(fleet)]
        with pytest.raises(NodesFailed, match=r"1 of 6 nodes: cannot be reached\n  away: no agent on away"):
            fleet.need_all()
    assert found == [
        ("server", "done", "no memory"),
        ("new", "not deployed", ""),
        ("ready", "ready", "version 1"),
        ("lost", "lost", "ended with the machine or was killed; last output: no memory"),
        ("failed", "failed", "exit code 1: no memory"),
        ("away", "unreachable", "no agent on away: /no/python: No such file or directory"),
    ]
