"""Lab plans: networks, nodes on them, and firewall rules, from TOML files.

about = "its purpose"
[networks]
can0 = "172.18.77.0/24"             # nodes of one network communicate freely
[nodes.srn1]
role = "radio"                      # radio, station, server, broker or router
can0 = "172.18.77.101"
routes = { "default" = "172.18.77.1" }
[nodes.firewall]
role = "router"
closed = true                       # forwards only connections of an [[allow]], and their replies
[[allow]]
from = ["radio", "station"]         # roles, nodes or networks
to = ["gpu"]
ports = [50051]                     # of TCP; without ports: all traffic of any protocol
"""

import ipaddress
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from splitfl.config import nearest
from splitfl.core.errors import ConfigError

FOLDER: Final = Path(__file__).parent / "plans"
ROLES: Final = ("radio", "station", "server", "broker", "router")
_NAME: Final = re.compile(r"[a-z][a-z0-9]{0,11}")
_KEYS_OF_NODES: Final = ("role", "routes", "closed", "refuses")


@dataclass(frozen=True, kw_only=True)
class LabNode:
    """A machine: its address on each of its networks, and its routes.

    A router forwards packets; a `closed` one only those that a rule allows. It drops the others, or,
    if it `refuses`, rejects them with ICMP "administratively prohibited".
    """

    name: str
    role: str
    addresses: Mapping[str, ipaddress.IPv4Interface]
    routes: Mapping[str, str]
    closed: bool = False
    refuses: bool = False

    @property
    def address(self) -> str:
        """The address on its first network in the file."""
        return str(next(iter(self.addresses.values())).ip)


@dataclass(frozen=True, kw_only=True)
class Allow:
    """Sources may open connections to targets on these TCP ports; without ports all traffic is allowed."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ports: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LabPlan:
    """The plan of a lab."""

    name: str
    about: str
    networks: Mapping[str, ipaddress.IPv4Network]
    nodes: Mapping[str, LabNode]
    rules: tuple[Allow, ...]

    def addresses_of(self, who: str) -> list[str]:
        """The addresses of a role, a node or a network in a rule."""
        if who in self.networks:
            return [str(self.networks[who])]
        members = [node for node in self.nodes.values() if who in (node.name, node.role)]
        return [str(address.ip) for node in members for address in node.addresses.values()]


def names() -> list[str]:
    """The names of the plans shipped with splitfl."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find(name: str) -> LabPlan:
    """A plan by name, or from a .toml file. Raises ConfigError for an unknown name and invalid contents."""
    if name in names():
        path = FOLDER / f"{name}.toml"
    elif name.lower().endswith(".toml"):
        path = Path(name)
    else:
        known = ", ".join(names())
        raise ConfigError(f"unknown lab {name!r};{nearest(name, names())} have {known}, or give a .toml file")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return read(path.stem, table)
    except (ConfigError, ValueError) as error:  # ValueError: an integer with too many digits to print
        raise ConfigError(f"{path}: {error}") from None


def read(name: str, table: Mapping[str, Any]) -> LabPlan:
    """A plan from a parsed file. Raises ConfigError for invalid contents."""
    _known("the file", table, ("about", "networks", "nodes", "allow"))
    networks = {key: _network(key, value) for key, value in _table("networks", table).items()}
    nodes = {key: _node(key, value, networks) for key, value in _table("nodes", table).items()}
    allowed = _list("allow", table.get("allow", []))
    rules = tuple(_rule(rule, [*ROLES, *nodes, *networks]) for rule in allowed)
    _refuse_idle_roles(rules, [*nodes, *networks], {node.role for node in nodes.values()})
    if not nodes:
        raise ConfigError("a lab must have at least one node")
    _refuse_twins(nodes)
    return LabPlan(name=name, about=str(table.get("about", "")), networks=networks, nodes=nodes, rules=rules)


def _network(name: str, value: Any) -> ipaddress.IPv4Network:
    _named("a network", name)
    try:
        return ipaddress.IPv4Network(_text(value))
    except ValueError as error:
        raise ConfigError(
            f"networks.{name} must be an IPv4 network like 172.18.77.0/24, got {value!r}: {error}"
        ) from None


def _node(name: str, table: Any, networks: Mapping[str, ipaddress.IPv4Network]) -> LabNode:
    _named("a node", name)
    if not isinstance(table, dict):
        raise ConfigError(f"nodes.{name} must be a table, got {table!r}")
    _known(f"nodes.{name}", table, (*_KEYS_OF_NODES, *networks))
    role = table.get("role")
    if role not in ROLES:
        raise ConfigError(f"nodes.{name}.role must be one of {', '.join(ROLES)}, got {role!r}")
    addresses = {
        key: _address(name, key, value, networks[key]) for key, value in table.items() if key in networks
    }
    if not addresses:
        raise ConfigError(f"nodes.{name} is on no network; have {', '.join(networks)}")
    closed, refuses = (_flag(name, key, table) for key in ("closed", "refuses"))
    if (closed or refuses) and role != "router":
        raise ConfigError(f"nodes.{name} is a {role}; only a router may have closed or refuses")
    given = table.get("routes", {})
    if not isinstance(given, dict):
        raise ConfigError(f"nodes.{name}.routes must be a table, got {given!r}")
    routes = {_target(name, target): _gateway(name, by) for target, by in given.items()}
    return LabNode(name=name, role=role, addresses=addresses, routes=routes, closed=closed, refuses=refuses)


def _address(name: str, network: str, value: Any, of: ipaddress.IPv4Network) -> ipaddress.IPv4Interface:
    try:
        address = ipaddress.IPv4Address(_text(value))
    except ValueError:
        raise ConfigError(f"nodes.{name}.{network} must be an IPv4 address, got {value!r}") from None
    if address not in of or address in (of.network_address, of.broadcast_address):
        raise ConfigError(f"nodes.{name}.{network} must lie in {of}, got {value}")
    return ipaddress.IPv4Interface(f"{address}/{of.prefixlen}")


def _target(name: str, value: str) -> str:
    try:
        return value if value == "default" else str(ipaddress.IPv4Network(value))
    except ValueError:
        raise ConfigError(
            f"a target of nodes.{name}.routes must be default or an IPv4 network, got {value!r}"
        ) from None


def _gateway(name: str, value: Any) -> str:
    try:
        return str(ipaddress.IPv4Address(_text(value)))
    except ValueError:
        raise ConfigError(
            f"a gateway of nodes.{name}.routes must be an IPv4 address, got {value!r}"
        ) from None


def _rule(table: Any, known: Sequence[str]) -> Allow:
    if not isinstance(table, dict):
        raise ConfigError(f"allow must be tables ([[allow]]), got {table!r}")
    _known("allow", table, ("from", "to", "ports"))
    sides = [tuple(_list(f"allow.{key}", table.get(key, []))) for key in ("from", "to")]
    for key, side in zip(("from", "to"), sides, strict=True):
        if not side:
            raise ConfigError(f"allow.{key} must name roles, nodes or networks")
        for who in side:
            if who not in known:
                raise ConfigError(
                    f"allow.{key}: unknown {who!r};{nearest(str(who), known)} have {', '.join(known)}"
                )
    ports = tuple(_list("allow.ports", table.get("ports", [])))
    if "ports" in table and (
        not ports or any(type(port) is not int or not 0 < port < 65536 for port in ports)
    ):
        raise ConfigError(f"allow.ports must lie in 1..65535, got {table['ports']!r}")
    return Allow(sources=sides[0], targets=sides[1], ports=ports)


def _refuse_idle_roles(rules: Sequence[Allow], named: Sequence[str], roles: set[str]) -> None:
    """Refuses a rule for a role without nodes, which is most likely a mistake."""
    for rule in rules:
        for key, side in (("from", rule.sources), ("to", rule.targets)):
            for who in side:
                if who not in named and who not in roles:
                    have = ", ".join(sorted(roles))
                    raise ConfigError(f"allow.{key}: no node has the role {who!r}; the nodes are {have}")


def _refuse_twins(nodes: Mapping[str, LabNode]) -> None:
    owner: dict[str, str] = {}
    for node in nodes.values():
        for address in node.addresses.values():
            if owner.setdefault(str(address.ip), node.name) != node.name:
                raise ConfigError(
                    f"{owner[str(address.ip)]} and {node.name} both have the address {address.ip}"
                )


def _known(where: str, table: Mapping[str, Any], keys: Sequence[str]) -> None:
    for key in table:
        if key not in keys:
            raise ConfigError(f"{where}: unknown {key!r};{nearest(key, keys)} have {', '.join(keys)}")


def _table(key: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
    if not isinstance(table.get(key), dict):
        raise ConfigError(f"a lab must have a table [{key}]")
    found: Mapping[str, Any] = table[key]
    return found


def _list(key: str, value: Any) -> Sequence[Any]:
    if not isinstance(value, list):
        raise ConfigError(f"{key} must be a list, got {value!r}")
    return value


def _text(value: Any) -> str:
    """`value` as a string; ipaddress would accept integers too. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("not a string")
    return value


def _named(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{what}'s name must have up to 12 lower-case letters and digits, got {name!r}")


def _flag(name: str, key: str, table: Mapping[str, Any]) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"nodes.{name}.{key} must be true or false, got {value!r}")
    return value
