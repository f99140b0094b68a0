"""The nodes of an inventory with a connection and an agent each, worked on in parallel."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from channel.core.closing import Closing
from splitfl.core.errors import ConfigError, PeerLost, SplitflError
from testbed.clocks import ClockOffset
from testbed.doctor.access import Agent
from testbed.errors import CommandFailed, NodesFailed
from testbed.inventory.nodes import Node
from testbed.remote import ssh

T = TypeVar("T")
_SOURCE: Final = Path(__file__).with_name("node_agent.py").read_bytes()
_ANSWER_S: Final = 40.0
_MOST_AT_ONCE: Final = 16


class NodeConnection:
    """One node: its connection, its agent, and its folder. Raises PeerLost if it cannot be reached."""

    def __init__(self, node: Node) -> None:
        self.node = node
        ssh.connect(node)
        self._agent = Agent(node, _SOURCE, ssh.options(node) if node.ssh else ())

    def ask(self, do: str, timeout_s: float = _ANSWER_S, **request: Any) -> dict[str, Any]:
        """The agent's answer. Raises CommandFailed with its reason, PeerLost, and Timeout."""
        answer = self._agent.ask(timeout_s, do=do, **request)
        if "error" in answer:
            raise CommandFailed(str(answer["error"]))
        return answer

    def work(self, do: str, timeout_s: float = _ANSWER_S, **request: Any) -> dict[str, Any]:
        """The agent's answer to a request about the node's folder; raises as `ask`."""
        return self.ask(do, timeout_s, folder=self.node.folder, **request)

    def clock_offset(self) -> ClockOffset:
        """The offset of the node's clock to this machine's."""
        return self._agent.clock_offset()

    def close(self) -> None:
        """Ends the agent; the connection is kept for the next command."""
        self._agent.close()


class Fleet(Closing):
    """Links to all nodes that can be reached, by name; `unreachable` has a sentence for each other one."""

    def __init__(self, nodes: Iterable[Node]) -> None:
        self.nodes = list(nodes)
        ssh.need_programs(self.nodes)
        self.links: dict[str, NodeConnection] = {}
        self.unreachable: dict[str, str] = {}
        self.retry()

    def retry(self) -> None:
        """Connects to the nodes without a link."""
        missing = [node for node in self.nodes if node.name not in self.links]
        connecting = {node.name: lambda node=node: NodeConnection(node) for node in missing}
        found = self._in_parallel(connecting, len(missing))
        self.unreachable = {name: str(one) for name, one in found.items() if isinstance(one, SplitflError)}
        self.links |= {name: one for name, one in found.items() if isinstance(one, NodeConnection)}

    def need_all(self) -> None:
        """Raises NodesFailed, node by node, unless every node can be reached."""
        if self.unreachable:
            raise NodesFailed("cannot be reached", self.unreachable, len(self.nodes))

    def lost(self, name: str, reason: str) -> None:
        """Drops the link to a node that no longer answers."""
        self.links.pop(name).close()
        self.unreachable[name] = reason

    def each(self, work: Callable[[NodeConnection], T]) -> dict[str, T | SplitflError]:
        """The result of this work on every reachable node, or its error, by name."""
        working = {name: lambda link=link: work(link) for name, link in self.links.items()}
        return self._in_parallel(working, _MOST_AT_ONCE)

    def all(self, what: str, work: Callable[[NodeConnection], T]) -> dict[str, T]:
        """The results of this work; raises NodesFailed, node by node, if it fails on any."""
        return succeeded(what, self.each(work))

    def close(self) -> None:
        """Ends all agents."""
        for link in self.links.values():
            link.close()

    def _in_parallel(self, work: Mapping[str, Callable[[], T]], at_once: int) -> dict[str, T | SplitflError]:
        def caught(one: Callable[[], T]) -> T | SplitflError:
            try:
                return one()
            except ConfigError:  # of this machine, not of a node
                raise
            except SplitflError as error:
                return error

        with ThreadPoolExecutor(max(1, at_once)) as pool:
            found = {name: pool.submit(caught, one) for name, one in work.items()}
            return {name: one.result() for name, one in found.items()}


def succeeded(what: str, results: Mapping[str, T | SplitflError]) -> dict[str, T]:
    """The results without errors; raises NodesFailed if there are any, PeerLost included."""
    failed = {name: str(one) for name, one in results.items() if isinstance(one, SplitflError)}
    if failed:
        raise NodesFailed(what, failed, len(results))
    return {name: one for name, one in results.items() if not isinstance(one, SplitflError)}


def lost_nodes(results: Mapping[str, Any]) -> dict[str, str]:
    """The nodes that did not answer, each with the reason."""
    return {name: str(one) for name, one in results.items() if isinstance(one, PeerLost)}
