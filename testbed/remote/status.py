"""The state of every node, as `status` and `run` show it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from splitfl.core.errors import PeerLost, SplitflError
from testbed.inventory.nodes import Node
from testbed.remote.fleet import Fleet, lost_nodes


@dataclass(frozen=True, kw_only=True)
class NodeStatus:
    """A node's state: unreachable, not deployed, ready, running, done, failed or lost.

    A program is lost if it no longer runs without having ended, as after a reboot. `detail` is the last
    line of its log, or the reason; `look` is the agent's whole answer.
    """

    node: Node
    state: str
    detail: str
    look: Mapping[str, Any]

    @property
    def run(self) -> Mapping[str, Any]:
        """The newest run on the server's node; empty if there is none."""
        return self.look.get("run") or {}

    @property
    def program(self) -> Mapping[str, Any]:
        """The record of the node's server or client; empty before its start."""
        found: Mapping[str, Any] = self.look.get("programs", {}).get(self.node.role, {})
        return found


def statuses(fleet: Fleet) -> list[NodeStatus]:
    """The state of all nodes, in the inventory's order; nodes that no longer answer are dropped."""
    found = fleet.each(lambda link: link.work("look"))
    for name, reason in lost_nodes(found).items():
        fleet.lost(name, reason)
    return [_status(node, found.get(node.name), fleet.unreachable.get(node.name, "")) for node in fleet.nodes]


def _status(node: Node, look: dict[str, Any] | SplitflError | None, unreachable: str) -> NodeStatus:
    if look is None or isinstance(look, PeerLost):
        return NodeStatus(node=node, state="unreachable", detail=unreachable, look={})
    if isinstance(look, SplitflError):
        return NodeStatus(node=node, state="failed", detail=str(look), look={})
    if not (look["state"] or {}).get("version"):
        return NodeStatus(node=node, state="not deployed", detail="", look=look)
    program = look["programs"].get(node.role)
    if program is None:
        return NodeStatus(node=node, state="ready", detail=f"version {look['state']['version']}", look=look)
    return NodeStatus(node=node, state=program["state"], detail=_detail(look, program), look=look)


def _detail(look: Mapping[str, Any], program: Mapping[str, Any]) -> str:
    if program["state"] == "done" and look["run"]:
        return str(look["run"]["folder"])
    last = str(program["last"]).removeprefix("Error: ")
    if program["state"] == "failed":
        return f"exit code {program['code']}: {last}"
    if program["state"] == "lost":
        return f"ended with the machine or was killed; last output: {last}"
    return last
