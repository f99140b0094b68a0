"""Reads an inventory from a TOML file.

server = "gpu"                        # the node of the server; or give it role = "server"
port = 50051                          # the one port that its firewall leaves open
ssh_config = "ssh/config"             # instead of your own; a key of single nodes too
[nodes.gpu]
address = "10.100.13.153"             # its address for the other nodes (default: the node's name)
ssh = "root@gpu.example"              # or lab = "lab", a node of this name in a running lab;
python = "/opt/venv/bin/python"       # neither: this machine
[nodes.srn2]
ssh = "team-srn-002"                  # a name of your ssh configuration
radio = "scope"
rf_node = 2
[nodes.srn1]
ssh = "team-srn-001"
role = "none"                         # takes no part in the training
[broker]
address = "10.100.14.10"
[hooks]
start_channel = "./start-channel.sh"
[reservation]
minutes = 60
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints

from splitfl.config import nearest
from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import parse_address, refuse_ipv6
from testbed.inventory.nodes import (
    CLIENT,
    NO_ROLE,
    SERVER,
    BrokerEntry,
    Hooks,
    Inventory,
    Node,
    Reservation,
    ScenarioEntry,
)

T = TypeVar("T")
_TEXTS: Final = tuple[str, ...]
_TABLES: Final[Mapping[str, type]] = {
    "broker": BrokerEntry,
    "hooks": Hooks,
    "scenario": ScenarioEntry,
    "reservation": Reservation,
}
_KEYS: Final[Mapping[str, type]] = {
    "server": str,
    "port": int,
    "listen_port": int,
    "ssh_config": str,
    "nodes": dict,
    **dict.fromkeys(_TABLES, dict),
}


def load(path: Path) -> Inventory:
    """An inventory from a file; paths of this machine in it are relative to the file's folder.

    Raises ConfigError for an unreadable file and for invalid contents.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return _relative_to(path.absolute().parent, read(table))
    except (ConfigError, ValueError) as error:  # ValueError: an integer with too many digits to print
        raise ConfigError(f"{path}: {error}") from None


def read(table: Mapping[str, Any]) -> Inventory:
    """An inventory from a parsed file. Raises ConfigError for invalid contents."""
    _check("the inventory", table, _KEYS)
    entries = table.get("nodes", {})
    server = _server_of(table.get("server", ""), entries)
    shared = {"ssh_config": table["ssh_config"]} if "ssh_config" in table else {}
    nodes = [_node(name, entry, shared, is_server=name == server) for name, entry in entries.items()]
    by_role = {role: tuple(node for node in nodes if node.role == role) for role in (SERVER, CLIENT, NO_ROLE)}
    if not by_role[CLIENT]:
        raise ConfigError("an inventory needs a server and at least one client under [nodes]")
    if "listen_port" in table and not table["listen_port"]:
        raise ConfigError("listen_port must lie in 1..65535, got 0")
    plain = {key: table[key] for key in ("port", "listen_port") if key in table}
    tables: dict[str, Any] = {
        key: _made(key, kind, table[key]) for key, kind in _TABLES.items() if key in table
    }
    return Inventory(
        server=by_role[SERVER][0], clients=by_role[CLIENT], others=by_role[NO_ROLE], **plain, **tables
    )


def of_address(text: str) -> Inventory:
    """This machine as the only client of a server at HOST:PORT, without access to the server."""
    host, port = parse_address(text)
    refuse_ipv6("the doctor", host)
    server = Node(name=SERVER, role=SERVER, address=host)
    return Inventory(server=server, clients=(Node(name="here"),), port=port)


def _server_of(named: str, entries: Mapping[str, Any]) -> str:
    """The name of the server's node, from `server` or from its role."""
    by_role = [
        name for name, entry in entries.items() if isinstance(entry, dict) and entry.get("role") == SERVER
    ]
    servers = list(dict.fromkeys(filter(None, [named, *by_role])))
    if len(servers) > 1:
        raise ConfigError(f"one node must be the server, got {', '.join(servers)}")
    if not servers or servers[0] not in entries:
        known = ", ".join(entries) or "none"
        raise ConfigError(
            f"server must be one of the nodes ({known}), got {named!r};{nearest(named, entries)}"
        )
    return servers[0]


def _node(name: str, entry: Any, shared: Mapping[str, Any], *, is_server: bool) -> Node:
    if not isinstance(entry, dict):
        raise ConfigError(f"nodes.{name} must be a table, got {entry!r}")
    role = SERVER if is_server else CLIENT
    if is_server and entry.get("role", SERVER) != SERVER:
        raise ConfigError(f"nodes.{name}.role must be server, since `server` names it, got {entry['role']!r}")
    return _made(f"nodes.{name}", Node, {"role": role, **shared, **entry}, name=name)


def _made(where: str, kind: type[T], table: Mapping[str, Any], **given: Any) -> T:
    """A dataclass from a table with its fields as keys, except those `given`."""
    keys = {key: of for key, of in get_type_hints(kind).items() if key not in given}
    _check(where, table, keys)
    for one in dataclasses.fields(kind):  # type: ignore[arg-type]
        if one.default is dataclasses.MISSING and one.name not in {*table, *given}:
            raise ConfigError(f"{where} needs the key {one.name}, got none")
    made = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
    return kind(**given, **made)


def _check(where: str, table: Mapping[str, Any], keys: Mapping[str, type]) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ConfigError(f"{where}: unknown {key!r};{nearest(key, keys)} have {', '.join(keys)}")
        if keys[key] == _TEXTS:
            if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
                raise ConfigError(f"{where}: {key} must be a list of strings, got {value!r}")
        elif type(value) is not keys[key] and not (keys[key] is float and type(value) is int):
            raise ConfigError(f"{where}: {key} must be of type {keys[key].__name__}, got {value!r}")


def _relative_to(folder: Path, inventory: Inventory) -> Inventory:
    def resolved(path: str) -> str:
        return str(folder / Path(path).expanduser()) if path else ""

    def moved(node: Node) -> Node:
        return replace(node, wheelhouse=resolved(node.wheelhouse), ssh_config=resolved(node.ssh_config))

    return replace(
        inventory,
        server=moved(inventory.server),
        clients=tuple(map(moved, inventory.clients)),
        others=tuple(map(moved, inventory.others)),
    )
