"""The machines of a run and the access to them, from a TOML file.

server = "gpu"                        # the node of the server
port = 50051                          # the one port that its firewall leaves open
[nodes.gpu]
address = "10.100.13.153"             # its address for the other nodes (default: the node's name)
ssh = "root@gpu.example"              # or lab = "lab", a node of this name in a running lab;
python = "/opt/venv/bin/python"       # neither: this machine
[nodes.srn2]
lab = "lab"
[broker]
address = "10.100.14.10"
port = 1883
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitfl.config import nearest
from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import parse_address, refuse_ipv6

_TYPES: Mapping[str, type] = {
    "server": str,
    "port": int,
    "listen_port": int,
    "nodes": dict,
    "broker": dict,
    "address": str,
    "ssh": str,
    "lab": str,
    "python": str,
}


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine: its name, its address for other nodes, and the doctor's access to it."""

    name: str
    address: str
    ssh: str = ""
    lab: str = ""
    python: str = ""


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The server and its port, the clients, and the address of a broker, if any.

    If the server's port is mapped (as of a container), the server listens on `listen_port`
    and clients connect to `port`.
    """

    server: Node
    port: int
    listen_port: int
    clients: tuple[Node, ...]
    broker: tuple[str, int] | None


def load(path: Path) -> Inventory:
    """An inventory from a file. Raises ConfigError for an unreadable file and for invalid contents."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        return read(table)
    except (ConfigError, ValueError) as error:  # ValueError: an integer with too many digits to print
        raise ConfigError(f"{path}: {error}") from None


def read(table: Mapping[str, Any]) -> Inventory:
    """An inventory from a parsed file. Raises ConfigError for invalid contents."""
    _check("the inventory", table, ("server", "port", "listen_port", "nodes", "broker"))
    nodes = {name: _node(name, entry) for name, entry in table.get("nodes", {}).items()}
    server = table.get("server", "")
    if server not in nodes:
        known = ", ".join(nodes) or "none"
        raise ConfigError(
            f"server must be one of the nodes ({known}), got {server!r};{nearest(server, nodes)}"
        )
    if len(nodes) < 2:
        raise ConfigError("an inventory needs a server and at least one client under [nodes]")
    port = _port("port", table.get("port", 50051))
    broker = table.get("broker")
    if broker is not None:
        _check("broker", broker, ("address", "port"))
        if "address" not in broker:
            raise ConfigError("broker must have an address, got none")
        refuse_ipv6("the doctor: broker.address", broker["address"])
    return Inventory(
        server=nodes[server],
        port=port,
        listen_port=_port("listen_port", table.get("listen_port", port)),
        clients=tuple(node for name, node in nodes.items() if name != server),
        broker=(broker["address"], _port("broker.port", broker.get("port", 1883)))
        if broker is not None
        else None,
    )


def of_address(text: str) -> Inventory:
    """This machine as the only client of a server at HOST:PORT, without access to the server."""
    host, port = parse_address(text)
    refuse_ipv6("the doctor", host)
    here = Node(name="here", address="")
    away = Node(name=host, address=host)
    return Inventory(server=away, port=port, listen_port=port, clients=(here,), broker=None)


def _node(name: str, table: Any) -> Node:
    if not isinstance(table, dict):
        raise ConfigError(f"nodes.{name} must be a table, got {table!r}")
    _check(f"nodes.{name}", table, ("address", "ssh", "lab", "python"))
    if "ssh" in table and "lab" in table:
        raise ConfigError(f"nodes.{name} has ssh and lab: give one")
    if table.get("ssh", "").startswith("-"):
        raise ConfigError(f"nodes.{name}.ssh must be USER@HOST, got {table['ssh']!r}")
    refuse_ipv6(f"the doctor: nodes.{name}.address", table.get("address", ""))
    return Node(name=name, **{"address": name, **table})


def _check(where: str, table: Mapping[str, Any], keys: tuple[str, ...]) -> None:
    for key, value in table.items():
        if key not in keys:
            raise ConfigError(f"{where}: unknown {key!r};{nearest(key, keys)} have {', '.join(keys)}")
        if type(value) is not _TYPES[key]:
            raise ConfigError(f"{where}: {key} must be of type {_TYPES[key].__name__}, got {value!r}")


def _port(name: str, value: Any) -> int:
    if not 0 < value < 65536:
        raise ConfigError(f"{name} must lie in 1..65535, got {value}")
    return int(value)
