"""Checks of the network path between a client and the server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitfl.core.errors import PeerLost
from splitfl.transport.base.addresses import joined
from splitfl.transport.base.reachability import PASSES, ClientReach
from testbed.doctor.access import Agent
from testbed.doctor.findings import BAD, GOOD, INFO, WARNING, Finding
from testbed.inventory.nodes import Inventory

_SILENCE_S: Final = 3.0
_MEASURE_S: Final = 0.5
_ANSWER_S: Final = 30.0
_ANY: Final = "a random port"


@dataclass(frozen=True, kw_only=True)
class OpenPorts:
    """The ports on which the server's agent listens: its configured one, if it is free, and a random one."""

    has_own: bool
    random: int


class ClientPath:
    """The paths of one client. `server` is the server's agent; None without access to the server.

    `route` is the host and port at which it reaches the server: the first of its own that is open.
    """

    def __init__(
        self, inventory: Inventory, client: Agent, server: Agent | None, opened: OpenPorts | None
    ) -> None:
        self._inventory, self._client, self._server = inventory, client, server
        self._opened = opened
        self._published = ("", 0)
        self.route = inventory.routes(client.node)[0]
        self.findings: list[Finding] = []
        self.rates_bps: tuple[float, float] | None = None

    def look(self) -> ClientReach:
        """Probes every path; the results are appended to `findings`."""
        routes = [one for one in self._inventory.routes(self._client.node) if self._resolves(one[0])]
        if not routes:
            return ClientReach(client=self._name)
        host, port = self.route = routes[0]
        local = self._client.ask(_ANSWER_S, do="route", host=host, port=port)
        if "error" in local:
            self._add("interface", BAD, f"no route to {host}: {local['error']}")
            return ClientReach(client=self._name, port="unreachable", up="unreachable", down="unreachable")
        detail = f"{local['interface']} ({local['address']}) has the route to {host} and will be published"
        self._add("interface", GOOD, detail)
        return ClientReach(
            client=self._name,
            port=self._choose(routes),
            up=self._up(),
            down=self._back(str(local["address"])),
            broker=self._to_broker(),
        )

    def _choose(self, routes: Sequence[tuple[str, int]]) -> str:
        """The outcome of the first route that is open, which becomes the client's; else of the first."""
        results = self._probe(self._client, [list(one) for one in routes])
        outcomes = [
            self._report(result, f"{self._name} -> {joined(*one)}", self._server is not None)
            for one, result in zip(routes, results, strict=True)
        ]
        chosen = next((index for index, outcome in enumerate(outcomes) if outcome in PASSES), 0)
        self.route = routes[chosen]
        return outcomes[chosen]

    def _up(self) -> str:
        """The outcome to a random port of the address that the server publishes over PyTorch RPC."""
        if self._opened is None:
            return "unknown"
        address = self._inventory.server.address
        (result,) = self._probe(self._client, [[address, self._opened.random]])
        return self._report(result, f"{self._name} -> {address}:{_ANY}", True)

    def _to_broker(self) -> str:
        broker = self._inventory.broker
        if broker is None:
            return "unknown"
        (result,) = self._probe(self._client, [[broker.address, broker.port]])
        return self._report(result, f"{self._name} -> broker {broker.address}:{broker.port}", False)

    def meet(self, first: "ClientPath") -> str:
        """The worse outcome of both directions to the first client, the rendezvous of PyTorch RPC."""
        if not self._published[1] or not first._published[1]:
            return "unknown"
        outcomes = [self._reached_from(first._client), first._reached_from(self._client)]
        return next((outcome for outcome in outcomes if outcome not in PASSES), "open")

    def measure(self, reach: ClientReach) -> None:
        """Measures round trip, MTU and bandwidth to the first open port of the server's agent.

        `rates_bps` are then those up and down, unless large packets do not pass.
        """
        if self._opened is None:
            return
        targets = [self.route] if reach.port == "open" and self._opened.has_own else []
        targets += [(self._inventory.server.address, self._opened.random)] if reach.up == "open" else []
        if not targets:
            return
        address, port = targets[0]
        got = self._client.ask(_ANSWER_S, do="measure", host=address, port=port, seconds=_MEASURE_S)
        if "error" in got:
            self._add("round trip", WARNING, f"not measured: {got['error']}")
            return
        self._add("round trip", INFO, f"{got['round_trip_s'] * 1e3:.2f} ms to {address}")
        if got["large_packets_pass"]:
            self._add("MTU", GOOD, f"{got['mtu']} bytes on the path to {address}, and full packets pass")
            self.rates_bps = got["up_bps"], got["down_bps"]
            up, down = got["up_bps"] / 1e6, got["down_bps"] / 1e6
            self._add("bandwidth", INFO, f"{up:.0f} Mbit/s up, {down:.0f} Mbit/s down")
        else:
            detail = (
                f"{got['mtu']} bytes are reported, but large packets do not arrive: lower the interface's "
                "MTU, or permit ICMP 'fragmentation needed'"
            )
            self._add("MTU", BAD, detail)

    @property
    def _name(self) -> str:
        return self._client.node.name

    def _resolves(self, address: str) -> bool:
        got = self._client.ask(_ANSWER_S, do="resolve", name=address)
        if not got["addresses"]:
            self._add("name", BAD, f"{address!r} has no address here: {got['reason']}")
            return False
        if got["addresses"] != [address]:
            self._add("name", GOOD, f"{address} is {', '.join(got['addresses'])}")
        return True

    def _back(self, address: str) -> str:
        """The outcome from the server to a port on the address that this client would publish."""
        self._published = address, int(self._client.ask(_ANSWER_S, do="listen", port=0)["port"])
        if self._server is None:
            return "unknown"
        return self._reached_from(self._server)

    def _reached_from(self, other: Agent) -> str:
        found = self._probe(other, [list(self._published)])[0]
        path = f"{other.node.name} -> {self._name} ({self._published[0]}):{_ANY}"
        return self._report(found, path, True)

    def _probe(self, agent: Agent, targets: list[list[Any]]) -> list[Mapping[str, Any]]:
        asked = agent.ask(_SILENCE_S + _ANSWER_S, do="probe", targets=targets, patience_s=_SILENCE_S)
        results: list[Mapping[str, Any]] = asked["results"]
        return results

    def _report(self, result: Mapping[str, Any], path: str, listens: bool) -> str:
        outcome = str(result["outcome"])
        if outcome == "refused" and listens:
            outcome = "rejected"
        words = {
            "open": "open",
            "refused": "not blocked, but no program listens",
            "rejected": "refused although a program listens: a firewall rejects it, or it leads elsewhere",
            "silent": f"no answer for {_SILENCE_S:g} s: a firewall drops it",
            "unreachable": f"unreachable: {result.get('reason')}",
        }
        state = GOOD if outcome == "open" else INFO if outcome in PASSES else BAD
        self._add("port", state, f"{path}: {words[outcome]}")
        return outcome

    def _add(self, check: str, state: str, detail: str) -> None:
        self.findings.append(Finding(node=self._name, check=check, state=state, detail=detail))


def open_ports(inventory: Inventory, server: Agent) -> tuple[OpenPorts, Finding]:
    """Opens the server's configured port, if it is free, and a random one, as PyTorch RPC does."""
    name, wanted = server.node.name, inventory.listen_port
    peer = inventory.clients[0].address
    host = server.ask(_ANSWER_S, do="bind", address=inventory.server.address, peer=peer)
    own = server.ask(_ANSWER_S, do="listen", port=wanted, host=host.get("address", ""))
    other = server.ask(_ANSWER_S, do="listen", port=0)
    if not other["port"]:
        raise PeerLost(f"{name} cannot open a port: {other['reason']}")
    detail = (
        f"{wanted} is free to listen on" if own["port"] else f"{wanted} cannot be opened: {own['reason']}"
    )
    state = GOOD if own["port"] else WARNING
    opened = OpenPorts(has_own=bool(own["port"]), random=other["port"])
    return opened, Finding(node=name, check="port", state=state, detail=detail)
