"""The tables of an inventory as dataclasses, each field a key of the file."""

import re
from dataclasses import dataclass, field
from typing import Final

from splitfl.config import at_least, one_of
from splitfl.core.errors import ConfigError
from splitfl.transport.base.addresses import parse_address, refuse_ipv6

SERVER: Final = "server"
CLIENT: Final = "client"
NO_ROLE: Final = "none"
ROLES: Final = (SERVER, CLIENT, NO_ROLE)
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class Node:
    """A machine: how this machine reaches it, its address for other nodes, and its part in a run.

    `ssh` is USER@HOST or a name of the user's ssh configuration, or of the file `ssh_config`; `lab` is a
    running lab that has a node of this name; with neither, the node is this machine. `address` is "" for
    the node's name.
    A node of `role` none takes no part in the training, as a base station that only forwards packets.

    `python` is the interpreter on the node, `folder` the one there that `splitfl testbed deploy` writes
    to, relative to the home folder. `wheelhouse` is a folder of wheels on this machine, from which all
    packages are installed on the node without internet; without one, the interpreter must have them.
    `data` is the client's own data on the node, `device` a torch device for it. `server_addresses`, HOST or
    HOST:PORT, are those at which this client may reach the server, in the order of preference; by default
    that of the server's node. All must lead to the port on which the server listens.

    `radio` names the node's radio, or what carries IP over it, `radio_log` the file or folder on the node
    in which it records how it performs, which `collect` copies; `rf_node` is its number in the channel
    scenario, from 1, and 0 without one.
    """

    name: str
    address: str = ""
    ssh: str = ""
    ssh_config: str = ""
    lab: str = ""
    python: str = ""
    role: str = CLIENT
    folder: str = ".splitfl-testbed"
    wheelhouse: str = ""
    data: str = ""
    device: str = ""
    server_addresses: tuple[str, ...] = ()
    radio: str = ""
    radio_log: str = ""
    rf_node: int = 0

    def __post_init__(self) -> None:
        where = f"nodes.{self.name}"
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"a node's name must consist of letters, digits, '.', '_' and '-', got {self.name!r}"
            )
        if self.ssh and self.lab:
            raise ConfigError(f"{where} has ssh and lab: give one")
        if self.ssh.startswith("-"):
            raise ConfigError(
                f"{where}.ssh must be USER@HOST or a name of your ssh configuration, got {self.ssh!r}"
            )
        one_of(f"{where}.role", self.role, ROLES)
        at_least(f"{where}.rf_node", self.rf_node, 0)
        if not self.folder.strip("/.") or ".." in self.folder.split("/") or self.folder.startswith("~"):
            raise ConfigError(
                f"{where}.folder must be a folder of its own on the node, relative to the home folder or "
                f"absolute, got {self.folder!r}"
            )
        if self.data and self.role != CLIENT:
            raise ConfigError(f"{where}.data is for clients; its role is {self.role}")
        if self.server_addresses and self.role != CLIENT:
            raise ConfigError(f"{where}.server_addresses is for clients; its role is {self.role}")
        for one in self.server_addresses:
            refuse_ipv6(f"{where}.server_addresses", parse_address(one if ":" in one else f"{one}:1")[0])
        if not self.address:
            object.__setattr__(self, "address", self.name)
        refuse_ipv6(f"the doctor: {where}.address", self.address)


@dataclass(frozen=True, kw_only=True)
class BrokerEntry:
    """The MQTT broker that server and clients reach."""

    address: str
    port: int = 1883

    def __post_init__(self) -> None:
        check_port("broker.port", self.port)
        refuse_ipv6("the doctor: broker.address", self.address)


@dataclass(frozen=True, kw_only=True)
class Hooks:
    """Commands of the user, run on this machine by its shell, each for at most `timeout_s`.

    `prepare_image` makes an image and `load_image` puts it on the nodes, both with `deploy --image`;
    `start_radio` runs before each `deploy` measures the paths, and lets the radios carry IP; `start_channel`
    runs before `run` starts the server, `fetch_results` with `collect` and `stop_channel` with `down`.
    """

    prepare_image: str = ""
    load_image: str = ""
    start_radio: str = ""
    start_channel: str = ""
    fetch_results: str = ""
    stop_channel: str = ""
    timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        at_least("hooks.timeout_s", self.timeout_s, 1.0)


@dataclass(frozen=True, kw_only=True)
class ScenarioEntry:
    """The testbed's channel scenario: its number, and that of its traffic scenario; 0 for none."""

    id: int = 0
    traffic: int = 0

    def __post_init__(self) -> None:
        at_least("scenario.id", self.id, 0)
        at_least("scenario.traffic", self.traffic, 0)


@dataclass(frozen=True, kw_only=True)
class Reservation:
    """The reserved time in minutes (0: not limited), the reservation's number and the team that has it."""

    minutes: float = 0.0
    id: int = 0
    team: str = ""

    def __post_init__(self) -> None:
        at_least("reservation.minutes", self.minutes, 0.0)
        at_least("reservation.id", self.id, 0)


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """The machines of a testbed, and what the run needs of it.

    Clients connect to `port` of the server. If it is mapped, as that of a container, the server listens
    on `listen_port`. A client's number in the run is its position among `clients`.
    """

    server: Node
    clients: tuple[Node, ...]
    others: tuple[Node, ...] = ()
    port: int = 50051
    listen_port: int = 0
    broker: BrokerEntry | None = None
    hooks: Hooks = field(default_factory=Hooks)
    scenario: ScenarioEntry = field(default_factory=ScenarioEntry)
    reservation: Reservation = field(default_factory=Reservation)

    def __post_init__(self) -> None:
        check_port("port", self.port)
        if not self.listen_port:
            object.__setattr__(self, "listen_port", self.port)
        check_port("listen_port", self.listen_port)
        owner: dict[int, str] = {}
        for node in self.nodes:
            if node.rf_node and owner.setdefault(node.rf_node, node.name) != node.name:
                raise ConfigError(
                    f"nodes.{node.name}.rf_node must be its own, got {node.rf_node}, "
                    f"which nodes.{owner[node.rf_node]} has"
                )

    def routes(self, client: Node) -> tuple[tuple[str, int], ...]:
        """The hosts and ports at which this client may reach the server, in the order of preference."""
        with_ports = [one if ":" in one else f"{one}:{self.port}" for one in client.server_addresses]
        return tuple(map(parse_address, with_ports)) or ((self.server.address, self.port),)

    @property
    def members(self) -> tuple[Node, ...]:
        """The nodes that take part in the training: the server, and the clients by number."""
        return (self.server, *self.clients)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The members, then the others."""
        return (*self.members, *self.others)


def check_port(name: str, value: int) -> None:
    """Raises ConfigError for a number that is no port of TCP."""
    if not 0 < value < 65536:
        raise ConfigError(f"{name} must lie in 1..65535, got {value}")
