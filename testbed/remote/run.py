"""Starts the programs on the nodes, server first, and watches them until the server ends.

Nothing depends on this process: killed and started again, it finds what runs. A program that is lost, as
after a reboot, is started again as fault_tolerance.on_loss permits: the server resumes its run from the last
checkpoint, a client rejoins.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from splitfl.core.errors import ConfigError, PeerLost, Timeout
from testbed.inventory.nodes import CLIENT, SERVER, Inventory, Node
from testbed.remote.deployment import OVERLAY_HOST, OVERLAY_NETWORK, Deployment, DeploymentFolder
from testbed.remote.fleet import Fleet, lost_nodes
from testbed.remote.programs import (
    OVERLAY,
    Program,
    client_program,
    overlay_program,
    server_program,
)
from testbed.remote.status import NodeStatus, statuses

Note = Callable[[str], None]

_POLL_S: Final = 1.0
_RETRY_S: Final = 10.0
_CLOCKS_S: Final = 60.0
_LISTEN_S: Final = 180.0
_OVERLAY_S: Final = 60.0
_AFTER_S: Final = 30.0
_GONE_S: Final = 600.0
_MAX_STARTS: Final = 5


class RemoteRun:
    """A run on the nodes of a deployment; `note` receives one sentence for each event."""

    def __init__(
        self,
        fleet: Fleet,
        inventory: Inventory,
        deployment: Deployment,
        session: DeploymentFolder,
        note: Note,
    ) -> None:
        self._fleet, self._inventory, self._deployment = fleet, inventory, deployment
        self._session, self._note = session, note
        self._retried_s = self._clocks_s = time.monotonic()
        self._gone_s: dict[str, float] = {}

    def is_running(self) -> bool:
        """Whether the server runs already; raises as `start`, before anything is started."""
        return self._states()[self._inventory.server.name].state == "running"

    def start(self) -> None:
        """Starts what does not run; once the server runs, a client's node may be out of reach.

        Raises NodesFailed for unreachable nodes, ConfigError for a done run and for nodes of another version.
        """
        found = self._states()
        server = found[self._inventory.server.name]
        self.measure_clocks()
        if server.state != "running":
            self._start_overlay(self._inventory.server)
            self._start_server(server)
        self._await_server()
        for node in self._inventory.clients:
            if found[node.name].state not in ("running", "unreachable"):
                self._start_client(node)

    def watch(self) -> Iterator[list[NodeStatus]]:
        """The nodes' states, about once a second, until the server has ended and its clients too."""
        ended_s: float | None = None
        while True:
            self._reconnect()
            found = statuses(self._fleet)
            self._check_unreachable(found)
            yield found
            server = next(one for one in found if one.node.role == SERVER)
            if server.state in ("done", "failed"):
                ended_s = ended_s or time.monotonic()
                are_clients_running = any(one.state == "running" for one in found if one.node.role == CLIENT)
                if not are_clients_running or time.monotonic() - ended_s > _AFTER_S:
                    self.measure_clocks()
                    return
            else:
                self._restart_lost(server, found)
            if time.monotonic() - self._clocks_s > _CLOCKS_S:
                self.measure_clocks()
            time.sleep(_POLL_S)

    def measure_clocks(self) -> None:
        """Measures the offset of every reachable node's clock, and keeps it."""
        self._clocks_s = time.monotonic()
        found = self._fleet.each(lambda link: link.clock_offset())
        for name, reason in lost_nodes(found).items():
            self._fleet.lost(name, reason)
        self._session.add_clocks({name: one for name, one in found.items() if not isinstance(one, Exception)})

    def _states(self) -> dict[str, NodeStatus]:
        """The nodes by name, all of which must be there before the server runs."""
        found = {one.node.name: one for one in statuses(self._fleet)}
        if found[self._inventory.server.name].state != "running":
            self._fleet.need_all()
        self._check_deployed(found)
        return found

    def _check_deployed(self, found: dict[str, NodeStatus]) -> None:
        for one in found.values():
            version = (one.look.get("state") or {}).get("version")
            if version != self._deployment.version and one.state != "unreachable":
                raise ConfigError(
                    f"{one.node.name} has version {version or 'none'}, not {self._deployment.version}: "
                    "use `splitfl testbed deploy` first"
                )
        server = found[self._inventory.server.name]
        if server.state == "done":
            raise ConfigError(
                "the run of this deployment is done: `splitfl testbed collect` fetches it, "
                "`run --again` starts another one"
            )

    def _start_server(self, server: NodeStatus) -> None:
        run = server.run
        is_interrupted = bool(run) and run["listens"] and run["status"] != "done"
        program = server_program(self._deployment, server.node, run["folder"] if is_interrupted else "")
        self._note(
            f"{server.node.name}: the server {'resumes ' + run['folder'] if is_interrupted else 'starts'}"
        )
        self._start(server.node, program)

    def _start_client(self, node: Node) -> None:
        self._start_overlay(node)
        self._note(f"{node.name}: client {self._inventory.clients.index(node)} starts")
        self._start(node, client_program(self._deployment, self._inventory, node))

    def _start_overlay(self, node: Node) -> None:
        program = overlay_program(self._deployment, self._inventory, node)
        if program is None:
            return
        self._start(node, program)
        deadline_s = time.monotonic() + _OVERLAY_S
        link = self._fleet.links[node.name]
        while not link.ask("bind", address=OVERLAY_HOST, peer=OVERLAY_HOST)["address"].startswith(
            OVERLAY_NETWORK
        ):
            self._deadline(deadline_s, node, OVERLAY, _OVERLAY_S)
            time.sleep(0.2)

    def _start(self, node: Node, program: Program) -> None:
        self._fleet.links[node.name].work(
            "start",
            version=self._deployment.version,
            name=program.name,
            argv=list(program.argv),
            env=dict(program.env),
        )

    def _await_server(self) -> None:
        """Waits until the server listens; raises PeerLost with its last output if it ends before."""
        node = self._inventory.server
        deadline_s = time.monotonic() + _LISTEN_S
        while True:
            look = self._fleet.links[node.name].work("look")
            record: dict[str, Any] = look["programs"][SERVER]
            if record["state"] != "running":
                raise PeerLost(f"{node.name}: the server ended: {record['last'].removeprefix('Error: ')}")
            if (look["run"] or {}).get("listens"):
                return
            self._deadline(deadline_s, node, SERVER, _LISTEN_S)
            time.sleep(0.5)

    def _deadline(self, deadline_s: float, node: Node, name: str, limit_s: float) -> None:
        if time.monotonic() > deadline_s:
            last = self._fleet.links[node.name].work("look")["programs"].get(name, {}).get("last", "")
            raise Timeout(f"{node.name}: the {name} was not ready within {limit_s:g} s; last output: {last}")

    def _restart_lost(self, server: NodeStatus, found: list[NodeStatus]) -> None:
        """Starts lost programs again, and failed clients of a running server, as on_loss permits."""
        if server.state == "lost":
            self._check_restarts(server)
            self._restart(server)
            return
        if server.state != "running" or self._deployment.on_loss == "abort":
            return
        for one in found:
            if one.node.role == CLIENT and one.state in ("lost", "failed", "ready"):
                self._check_restarts(one)
                self._restart(one)

    def _restart(self, one: NodeStatus) -> None:
        self._note(f"{one.node.name}: {one.detail}")
        try:
            if one.node.role == SERVER:
                self._start_overlay(one.node)
                self._start_server(one)
            else:
                self._start_client(one.node)
        except PeerLost as error:
            self._fleet.lost(one.node.name, str(error))

    def _check_restarts(self, one: NodeStatus) -> None:
        starts = one.program.get("starts", 0)
        if starts > _MAX_STARTS:
            raise PeerLost(f"{one.node.name}: {one.detail}; it was started {starts} times")

    def _reconnect(self) -> None:
        if self._fleet.unreachable and time.monotonic() - self._retried_s > _RETRY_S:
            self._retried_s = time.monotonic()
            self._fleet.retry()

    def _check_unreachable(self, found: list[NodeStatus]) -> None:
        """Notes nodes that went and came back; raises PeerLost if the server's is away for too long."""
        now = {one.node.name: one.detail for one in found if one.state == "unreachable"}
        for name, reason in now.items():
            if name not in self._gone_s:
                self._gone_s[name] = time.monotonic()
                self._note(f"{name}: not reachable, its programs may continue: {reason}")
        for name in self._gone_s.keys() - now.keys():
            del self._gone_s[name]
            self._note(f"{name}: reachable again")
        server = self._inventory.server.name
        if time.monotonic() - self._gone_s.get(server, time.monotonic()) > _GONE_S:
            raise PeerLost(
                f"{server}: not reachable for {_GONE_S:g} s; `splitfl testbed collect` takes what there is"
            )
