"""A lab that stands: a namespace for each node, one for the cables between them, routes and firewalls."""

import platform
import shutil
import tempfile
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

from splitfl.core.errors import ConfigError
from testbed.lab.firewall import ruleset
from testbed.lab.plan import Node, Plan
from testbed.namespaces import Namespace, ip, need_root

_TIMEOUT_S: Final = 30.0


class Lab:
    """The nodes of a plan, up until the context is left. Raises NotRoot, ConfigError without nft.

    A node's names are its own in every node's /etc/hosts, and NAME-NETWORK for each of its addresses.
    """

    def __init__(self, plan: Plan) -> None:
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
                self._lead(node)
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Ends what runs in the nodes and removes them."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _connect(self, node: Node) -> None:
        own = self.nodes[node.name]
        for number, (network, address) in enumerate(node.addresses.items()):
            port = f"{node.name}.{number}"  # no network can be called so
            ip(
                *("link", "add", network, "netns", own.name, "type", "veth"),
                *("peer", port, "netns", self._fabric.name),
            )
            ip("-n", self._fabric.name, "link", "set", port, "master", network, "up")
            ip("-n", own.name, "address", "add", str(address), "dev", network)
            ip("-n", own.name, "link", "set", network, "up")

    def _lead(self, node: Node) -> None:
        """Routes, forwarding, and the firewall before anything may be forwarded."""
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


def need_programs(plan: Plan) -> None:
    """Raises NotRoot, and ConfigError where a program that this lab takes is missing."""
    need_root("labs")
    if any(node.closed for node in plan.nodes.values()) and shutil.which("nft") is None:
        raise ConfigError("a lab with a firewall needs the program `nft` (Debian: nftables)")


def _hosts(plan: Plan) -> str:
    # Debian gives a machine's own name this address, at which no other machine finds it.
    lines = ["127.0.0.1 localhost", f"127.0.1.1 {platform.node()}"]
    for node in plan.nodes.values():
        for number, (network, address) in enumerate(node.addresses.items()):
            lines.append(f"{address.ip} {node.name}-{network}{'' if number else ' ' + node.name}")
    return "\n".join([*lines, ""])
