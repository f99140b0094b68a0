"""What a deployment puts on the nodes, and the session that this machine keeps of it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.models import untrained
from splitfl.models.checkpoint.source import resolve
from splitfl.setup.experiment_file import as_dict
from splitfl.transport.mixed.spec import MixedSettings
from testbed.clocks import ClockOffset
from testbed.inventory.nodes import Inventory, Node

OVERLAY_NETWORK: Final = "10.99.0."
OVERLAY_HOST: Final = "10.99.0.1"
MIXED: Final = "mixed"
_RPC_PORTS: Final = (29500, 29501)
_HUB: Final = "hf:"


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """An experiment on the nodes.

    `transport` is one of the doctor's, overlay and mixed included; clients join `address`:`port`, or what
    `routes` has for their node, which the server has as `host`:`listen_port`. `model` and `data` are folders
    or files of this machine that are copied to the nodes, "" for what comes with the packages or is theirs.
    """

    name: str
    settings: Mapping[str, Any]
    transport: str
    address: str
    port: int
    host: str
    listen_port: int
    wheel: str
    model: str
    data: str
    version: str = ""
    routes: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """The deployment's folder, relative to the node's."""
        return f"versions/{self.version}"

    def route(self, node: Node) -> str:
        """The HOST:PORT at which a client's node reaches the server, or the broker."""
        return self.routes.get(node.name, f"{self.address}:{self.port}")

    @property
    def transports(self) -> tuple[str, ...]:
        """The transports of a mixed run's clients by number, else the run's only one."""
        return tuple(self.settings["transport"]["clients"]) if self.transport == MIXED else (self.transport,)

    def transport_of(self, client: int) -> str:
        """The transport over which this client joins."""
        return self.transports[client] if self.transport == MIXED else self.transport

    @property
    def on_loss(self) -> str:
        """The setting fault_tolerance.on_loss."""
        return str(self.settings["fault_tolerance"]["on_loss"])

    @property
    def rounds(self) -> int:
        """The number of rounds."""
        return int(self.settings["federation"]["rounds"])

    @classmethod
    def of(
        cls,
        name: str,
        config: RunConfig,
        inventory: Inventory,
        transport: str,
        host: str,
        wheel: Path,
        routes: Mapping[str, str],
    ) -> "Deployment":
        """The deployment of an experiment; `host` is the server's own address for `inventory.port`, `routes`
        has the HOST:PORT at which each client's node reaches it.

        Raises ConfigError for another number of clients, ModelMissing for a model that is not here.
        """
        check_clients(config, inventory)
        address, port = inventory.server.address, inventory.port
        if transport == "rpc":
            routes = {}  # the server publishes its own address
        if transport == "mqtt":
            assert inventory.broker is not None  # else the doctor does not advise it
            routes = {}
            address, port = inventory.broker.address, inventory.broker.port
        if transport == MIXED:
            routes = _mixed_routes(config, inventory, routes)
        made = cls(
            name=name,
            settings=as_dict(config),
            transport=transport,
            address=address,
            port=port,
            host=host,
            listen_port=inventory.listen_port,
            wheel=str(wheel),
            model="" if config.model.name in untrained.ABOUT else str(resolve(config.model.name).absolute()),
            data=local_data(config.task.data),
            routes=routes,
        )
        return replace(made, version=made._digest(inventory))

    def _digest(self, inventory: Inventory) -> str:
        """Identifies the contents: wheel, settings, files by size and time, and the nodes' parts."""
        nodes = [asdict(node) for node in inventory.nodes]
        wheel = hashlib.sha256(Path(self.wheel).read_bytes()).hexdigest()
        files = [list(_stamps(Path(path))) for path in (self.model, self.data) if path]
        text = json.dumps([asdict(self) | {"wheel": wheel}, nodes, files])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class DeploymentFolder:
    """The folder beside an inventory that holds the deployment until `down`, secrets included."""

    def __init__(self, inventory: Path) -> None:
        self.folder = inventory.absolute().parent / f".{inventory.stem}.splitfl"

    @property
    def secrets(self) -> Path:
        """The folder of certificates and tokens."""
        return self.folder / "secrets"

    @property
    def settings(self) -> Path:
        """The folder of the experiment's settings."""
        return self.folder / "settings"

    def write(self, deployment: Deployment) -> None:
        """Keeps the deployment."""
        self._write("deployment.json", asdict(deployment))

    def keep_nodes(self, nodes: Sequence[Node]) -> None:
        """Remembers nodes before they get files, so that `down` cleans them whatever the inventory has."""
        self._write("nodes.json", [asdict(node) for node in nodes])

    def nodes(self) -> list[Node]:
        """The nodes that have got files, server first."""
        rows = self._read("nodes.json") or []
        return [Node(**{**row, "server_addresses": tuple(row["server_addresses"])}) for row in rows]

    def check_places(self, inventory: Inventory) -> None:
        """Raises ConfigError if a node with files is no longer in the inventory, or elsewhere."""
        now = {node.name: node for node in inventory.members}
        for node in self.nodes():
            if node.name not in now or _place(now[node.name]) != _place(node):
                raise ConfigError(
                    f"the last `deploy` wrote nodes.{node.name} to {_where(node)}, which the inventory no "
                    "longer has: use `splitfl testbed down` first (with --forget if that cannot be reached)"
                )

    def check_unchanged(self, inventory: Inventory) -> None:
        """Raises ConfigError if a node's part in the run is another than at the last `deploy`."""
        before, now = map(_parts, (self.nodes(), inventory.members))
        if before != now:
            names = ", ".join(sorted({one.name for one in {*before} ^ {*now}})) or "their order"
            raise ConfigError(
                f"the inventory has changed since `deploy` ({names}): restore it, or use `deploy` again"
            )

    def deployment(self) -> Deployment:
        """The kept deployment. Raises ConfigError without one."""
        table = self._read("deployment.json")
        if table is None:
            raise ConfigError(f"nothing is deployed ({self.folder} has no deployment): use `deploy` first")
        return Deployment(**table)

    def add_clocks(self, offsets: Mapping[str, ClockOffset]) -> None:
        """Keeps a measured offset of each node's clock."""
        table = self._read("clocks.json") or {}
        for name, offset in offsets.items():
            table.setdefault(name, []).append(asdict(offset))
        self._write("clocks.json", table)

    def clocks(self) -> dict[str, list[ClockOffset]]:
        """All measured offsets by node."""
        table = self._read("clocks.json") or {}
        return {name: [ClockOffset(**row) for row in rows] for name, rows in table.items()}

    def note_collected(self, run: str) -> None:
        """Remembers that a finished run was collected from all nodes."""
        self._write("collected.json", sorted({*self.collected(), run}))

    def collected(self) -> list[str]:
        """The finished runs that were collected."""
        return list(self._read("collected.json") or [])

    def forget_secrets(self) -> None:
        """Removes certificates and tokens."""
        shutil.rmtree(self.secrets, ignore_errors=True)

    def forget(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, name: str, content: Any) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = self.folder / f"{name}.{os.getpid()}.part"  # `run` and `collect` may write at once
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")
        part.replace(self.folder / name)

    def _read(self, name: str) -> Any:
        path = self.folder / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} is damaged: {error}; `splitfl testbed down` removes it") from None


def rpc_port(listen_port: int) -> int:
    """The server's port for PyTorch RPC beside another transport or the overlay's hub at `listen_port`."""
    return next(port for port in _RPC_PORTS if port != listen_port)


def _mixed_routes(config: RunConfig, inventory: Inventory, routes: Mapping[str, str]) -> dict[str, str]:
    """Where each client's node reaches the server, or the broker, over its own transport."""
    own = config.transport.of(MixedSettings)
    address = inventory.server.address
    others = {"rpc": f"{address}:{own.rpc_port}", "mqtt": own.broker}
    default = f"{address}:{inventory.port}"
    return {
        node.name: others.get(name, routes.get(node.name, default))
        for node, name in zip(inventory.clients, own.clients, strict=True)
    }


def check_clients(config: RunConfig, inventory: Inventory) -> None:
    """Raises ConfigError unless the inventory has a node for each client."""
    wanted, have = config.federation.clients, len(inventory.clients)
    if wanted != have:
        raise ConfigError(
            f"federation.clients must be {have}, the nodes with role client in the inventory, got {wanted}; "
            f"use --set federation.clients={have}, or add nodes"
        )


def check_folders(inventory: Inventory) -> None:
    """Raises ConfigError for two nodes with the same folder of the same machine."""
    owner: dict[tuple[str, ...], str] = {}
    for node in inventory.members:
        if (first := owner.setdefault(_place(node), node.name)) != node.name:
            raise ConfigError(
                f"nodes.{node.name} and nodes.{first} both have {_where(node)}: correct `ssh`, or set "
                f"nodes.{node.name}.folder to another one"
            )


def _place(node: Node) -> tuple[str, ...]:
    """Where a deployment writes to. The nodes of labs have the files of this machine."""
    return node.ssh, node.ssh_config, node.folder


def _where(node: Node) -> str:
    return f"the folder {node.folder} of {node.ssh or 'this machine'}"


def _parts(nodes: Sequence[Node]) -> list[Node]:
    """The nodes without what a run does not depend on."""
    return [replace(node, radio="", radio_log="", rf_node=0, wheelhouse="") for node in nodes]


def local_data(data: str) -> str:
    """The absolute path of data on this machine; "" for a task's own data and for a data set of the hub."""
    if not data or data.startswith(_HUB):
        return ""
    path = Path(data).expanduser().absolute()
    if not path.exists():
        raise ConfigError(f"task.data: {data} does not exist on this machine")
    return str(path)


def _stamps(path: Path) -> Iterator[tuple[str, int, int]]:
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if one.is_file():
            status = one.stat()
            yield one.name, status.st_size, status.st_mtime_ns
