"""The complete examination: every machine, every path, and the resulting advice on transports."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from splitfl.core.errors import PeerLost
from splitfl.transport.base.addresses import joined
from splitfl.transport.base.reachability import Reach
from testbed.doctor.access import Agent
from testbed.doctor.advice import advise
from testbed.doctor.findings import ACCESS, BAD, Advice, Finding
from testbed.doctor.machines import check_clock, check_lookup, check_machine, check_versions, has_overlay
from testbed.doctor.paths import ClientPath, open_ports
from testbed.inventory.nodes import Inventory, Node

_ANSWER_S: Final = 30.0
_SILENCE_S: Final = 3.0
_LOOKUP_S: Final = 90.0

Facts = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class NodePair:
    """A client and the server: the transports that work between these two, and the rates up and down.

    `route` is the HOST:PORT at which the client reaches the server. The rates are None if they could not be
    measured.
    """

    client: str
    route: str
    works: tuple[str, ...]
    rates_bps: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Examination:
    """Findings, advice on each transport for all nodes, and the pairs of a client and the server."""

    findings: list[Finding]
    advice: list[Advice]
    pairs: tuple[NodePair, ...] = ()

    @property
    def use(self) -> str:
        """The first transport that works; empty if none does."""
        return next((one.transport for one in self.advice if one.works), "")


def examine_local() -> list[Finding]:
    """Examines this machine alone."""
    with Agent(Node(name="here")) as agent:
        facts = agent.ask(_ANSWER_S, do="facts")
        return [*check_machine("here", facts), *check_versions("here", facts, facts)]


def examine(inventory: Inventory, *, is_server_known: bool = True, is_installed: bool = True) -> Examination:
    """Examines all nodes and paths; without access to the server, only those visible from its clients.

    Before the packages are installed, the advice does not depend on their versions.
    """
    findings: list[Finding] = []
    with ExitStack() as stack:
        agents = _agents(inventory, stack, findings, is_server_known)
        facts = {name: agent.ask(_ANSWER_S, do="facts") for name, agent in agents.items()}
        server = agents.get(inventory.server.name)
        reference = facts.get(inventory.server.name)
        for name, agent in agents.items():
            findings += _machine(agent, facts[name], reference or facts[name])
        opened = None
        if server is not None:
            opened, finding = open_ports(inventory, server)
            findings.append(finding)
        clients = [agents[node.name] for node in inventory.clients if node.name in agents]
        paths = [ClientPath(inventory, client, server, opened) for client in clients]
        with ThreadPoolExecutor(max(1, len(paths))) as pool:
            reaches = list(pool.map(ClientPath.look, paths))
        reaches[1:] = [
            replace(reach, side=one.meet(paths[0]))
            for one, reach in list(zip(paths, reaches, strict=True))[1:]
        ]
        for path, reach in zip(paths, reaches, strict=True):
            path.measure(reach)  # sequentially, so that measurements do not share the bandwidth
            findings += path.findings
        wanted = [*([inventory.server] if is_server_known else []), *inventory.clients]
        differ = any(one.check == "versions" and one.state == BAD for one in findings)
        advise_on = partial(
            advise,
            same_torch=not (differ and is_installed),
            unreached=tuple(node.name for node in wanted if node.name not in agents),
        )
        together = Reach(clients=reaches, server_to_broker=_broker(inventory, server))
        advice = advise_on(together, has_overlay=all(map(has_overlay, facts.values())))
        pairs = []
        for path, reach in zip(paths, reaches, strict=True):
            both = [facts[name] for name in (inventory.server.name, reach.client) if name in facts]
            alone = advise_on(replace(together, clients=[reach]), has_overlay=all(map(has_overlay, both)))
            works = tuple(one.transport for one in alone if one.works)
            pairs.append(
                NodePair(
                    client=reach.client, route=joined(*path.route), works=works, rates_bps=path.rates_bps
                )
            )
    return Examination(findings=findings, advice=advice, pairs=tuple(pairs))


def _machine(agent: Agent, facts: Facts, reference: Facts) -> list[Finding]:
    name = agent.node.name
    offset = agent.clock_offset()
    lookup = agent.ask(_LOOKUP_S, do="lookup", address=_any_address(facts))
    return [
        *check_machine(name, facts),
        *check_versions(name, facts, reference),
        check_clock(name, offset.ahead_s, offset.within_s),
        check_lookup(name, float(lookup["took_s"])),
    ]


def _agents(
    inventory: Inventory, stack: ExitStack, findings: list[Finding], is_server_known: bool
) -> dict[str, Agent]:
    nodes = [*([inventory.server] if is_server_known else []), *inventory.clients]
    found = {}
    for node in nodes:
        try:
            found[node.name] = stack.enter_context(Agent(node))
        except PeerLost as error:
            findings.append(Finding(node=node.name, check=ACCESS, state=BAD, detail=str(error)))
    return found


def _any_address(facts: Facts) -> str:
    """One of the machine's own addresses, preferably not loopback."""
    addresses = [str(held["address"]) for held in facts["interfaces"].values()]
    return next((address for address in addresses if not address.startswith("127.")), "127.0.0.1")


def _broker(inventory: Inventory, server: Agent | None) -> str:
    if inventory.broker is None or server is None:
        return "unknown"
    targets = [[inventory.broker.address, inventory.broker.port]]
    asked = server.ask(_ANSWER_S, do="probe", targets=targets, patience_s=_SILENCE_S)
    return str(asked["results"][0]["outcome"])
