"""A running lab: a namespace per node, one for the bridges between them, routes and firewalls."""

import platform
import shutil
import tempfile
from contextlib import ExitStack
from typing import Final

from channel.core.closing import Closing
from splitfl.core.errors import ConfigError
from testbed.lab.firewall import ruleset
from testbed.lab.plan import LabNode, LabPlan
from testbed.namespaces import Namespace, ip, need_root

_TIMEOUT_S: Final = 30.0


class Lab(Closing):
    """The nodes of a plan, until the context exits. Raises NotRoot, and ConfigError without nft.

    Every node's /etc/hosts has each node's name, and NAME-NETWORK for each of its addresses.
    """

    def __init__(self, plan: LabPlan) -> None:
        need_programs(plan)
        self.plan = plan
        self.nodes: dict[str, Namespace] = {}
        with ExitStack() as stack:
            self._fabric = stack.enter_context(Namespace("fabric"))
            for network in plan.networks:
                ip("-n", self._fabric.name, "link", "add", network, "type", "bridge")
                ip("-n", self._fabric.name, "link", "set", network, "up")
            hosts = _hosts(plan)
            for node in plan.nodes.values():
                self.nodes[node.name] = stack.enter_context(Namespace(node.name, hosts))
                self._connect(node)
            for node in plan.nodes.values():
                self._route(node)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Ends all processes in the nodes and removes the nodes."""
        self._stack.close()

    def _connect(self, node: LabNode) -> None:
        own = self.nodes[node.name]
        for number, (network, address) in enumerate(node.addresses.items()):
            port = f"{node.name}.{number}"  # no network can have such a name
            ip(
                *("link", "add", network, "netns", own.name, "type", "veth"),
                *("peer", port, "netns", self._fabric.name),
            )
            ip("-n", self._fabric.name, "link", "set", port, "master", network, "up")
            ip("-n", own.name, "address", "add", str(address), "dev", network)
            ip("-n", own.name, "link", "set", network, "up")

    def _route(self, node: LabNode) -> None:
        """Sets up routes, the firewall, and then forwarding."""
        own = self.nodes[node.name]
        for target, by in node.routes.items():
            ip("-n", own.name, "route", "add", target, "via", by)
        if node.closed:
            with tempfile.NamedTemporaryFile("w", suffix=".nft") as file:
                file.write(ruleset(self.plan, node))
                file.flush()
                own.run(["nft", "-f", file.name], _TIMEOUT_S)
        if node.role == "router":
            own.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"], _TIMEOUT_S)


def need_programs(plan: LabPlan) -> None:
    """Raises NotRoot, and ConfigError if a program that this lab needs is missing."""
    need_root("labs")
    if any(node.closed for node in plan.nodes.values()) and shutil.which("nft") is None:
        raise ConfigError("a lab with a firewall needs the program `nft` (Debian: nftables)")


def _hosts(plan: LabPlan) -> str:
    # As on Debian, where a machine's own name has this address, which other machines cannot reach.
    lines = ["127.0.0.1 localhost", f"127.0.1.1 {platform.node()}"]
    for node in plan.nodes.values():
        for number, (network, address) in enumerate(node.addresses.items()):
            lines.append(f"{address.ip} {node.name}-{network}{'' if number else ' ' + node.name}")
    return "\n".join([*lines, ""])
