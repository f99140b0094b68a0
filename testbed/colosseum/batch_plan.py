"""A batch job from an inventory: the job's file, and one radio.conf for each node.

A batch job has neither ssh nor GPU nodes, and its SRNs' numbers are not known before it runs. So no address
is derived from a number: clients connect to the server's fixed address in the network that the radio makes.
"""

import ipaddress
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitfl.config import one_of
from splitfl.core.errors import ConfigError
from testbed.colosseum.batch_file import BatchJob, BatchNode
from testbed.colosseum.radio_conf import WARM, RadioConf, experiment_text
from testbed.colosseum.rules import Rules
from testbed.inventory.nodes import NO_ROLE, SERVER, Inventory, Node

_TRANSPORTS: Final = ("grpc", "rpc")
_JOIN_S: Final = 300
"""How long a client tries to reach the server, which loads the model at the same time."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """A batch job with the contents of its nodes' radio.conf by the name in `BatchNode.config`."""

    batch: BatchJob
    confs: Mapping[str, RadioConf]

    def write(self, folder: Path) -> list[Path]:
        """Writes the files as the team's folder has them, below batch/ and config/; returns their paths."""
        texts = {f"batch/{self.batch.name}.json": json.dumps(self.batch.as_table(), indent=2) + "\n"}
        texts |= {f"config/{name}": conf.text() for name, conf in self.confs.items()}
        paths = []
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            paths.append(folder / name)
        return paths


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """What a batch job needs beyond its inventory and its experiment.

    `image` is the name of the nodes' image, `gateways` are the names of nodes connected to col0; see
    `RadioConf` for `modem` and `BatchJob` for the others.
    """

    name: str
    duration_s: int
    image: str
    loops: int = 1
    gateways: tuple[str, ...] = ()
    modem: str = ""
    modem_start: str = "boot"
    scenario_nodes: int = 0
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise ConfigError(f"a batch's name must be letters, digits, '-' and '_', got {self.name!r}")


def plan_batch(inventory: Inventory, experiment: Mapping[str, Any], settings: BatchSettings) -> BatchPlan:
    """The batch job of an experiment's tables on an inventory's nodes. Raises ConfigError.

    The experiment has its transport and number of clients; transport.secrets is a folder in the image.
    """
    _require_batch(inventory, settings)
    _require_experiment(experiment, inventory)
    nodes, confs = [], {}
    for node in sorted(inventory.nodes, key=lambda node: node.rf_node):
        config = f"{settings.name}-{node.name}.conf"
        confs[config] = _conf(inventory, node, experiment, settings)
        nodes.append(
            BatchNode(
                rf_node=node.rf_node,
                image=settings.image,
                config=config,
                is_gateway=node.name in settings.gateways,
                traffic_node=node.rf_node,
            )
        )
    batch = BatchJob(
        name=settings.name,
        duration_s=settings.duration_s,
        rf_scenario=inventory.scenario.id,
        traffic_scenario=inventory.scenario.traffic,
        nodes=tuple(nodes),
        loops=settings.loops,
        scenario_nodes=settings.scenario_nodes,
        rules=settings.rules,
    )
    minutes = batch.reserved_s / 60
    if 0 < inventory.reservation.minutes < minutes:
        raise ConfigError(
            f"the batch takes {minutes:.0f} min with Colosseum's own times, but reservation.minutes is "
            f"{inventory.reservation.minutes:g}"
        )
    return BatchPlan(batch=batch, confs=confs)


def _require_batch(inventory: Inventory, settings: BatchSettings) -> None:
    for node in inventory.nodes:
        if not node.rf_node:
            raise ConfigError(
                f"nodes.{node.name} has no rf_node: a batch job runs on SRNs in the channel scenario only, "
                "not on GPU nodes"
            )
    for name in settings.gateways:
        one_of("gateway", name, (node.name for node in inventory.nodes))
    for key, value in (("id", inventory.scenario.id), ("traffic", inventory.scenario.traffic)):
        if not value:
            raise ConfigError(f"a batch job needs scenario.{key} in the inventory, got none")
    if inventory.listen_port != inventory.port:
        raise ConfigError("a batch job maps no port: listen_port must be port, or left out")
    if inventory.broker is not None:
        raise ConfigError("a batch job reaches no broker: leave [broker] out of the inventory")
    try:
        ipaddress.IPv4Address(inventory.server.address)
    except ValueError:
        raise ConfigError(
            f"nodes.{inventory.server.name}.address must be the server's fixed IPv4 address in the network "
            f"that the radio makes, as SCOPE's 172.16.0.1, got {inventory.server.address!r}"
        ) from None


def _require_experiment(experiment: Mapping[str, Any], inventory: Inventory) -> None:
    one_of("transport.name of a batch job", experiment["transport"]["name"], _TRANSPORTS)
    clients = experiment["federation"]["clients"]
    if clients != len(inventory.clients):
        raise ConfigError(
            f"federation.clients must be the number of clients in the inventory, {len(inventory.clients)}, "
            f"got {clients}"
        )
    budget = experiment.get("auto", {}).get("budget", "none")
    if budget != "none":
        raise ConfigError(f"auto.budget must be none in a batch job, got {budget!r}")


def _conf(
    inventory: Inventory, node: Node, experiment: Mapping[str, Any], settings: BatchSettings
) -> RadioConf:
    plain: dict[str, Any] = {
        "node": node.name,
        "role": node.role,
        "address": inventory.server.address if node.role == SERVER else "",
        "modem": settings.modem,
        "modem_start": settings.modem_start,
        "loops": settings.loops,
    }
    if node.role == NO_ROLE:
        return RadioConf(run="true", warm="true", **plain)
    table = dict(experiment)
    if node.device:
        table["server"] = {**table.get("server", {}), "device": node.device}
    words = _serve(inventory) if node.role == SERVER else _join(inventory, node, experiment["transport"])
    return RadioConf(run=words, warm=WARM, experiment=experiment_text(table), **plain)


def _serve(inventory: Inventory) -> str:
    own = shlex.join(["--host", inventory.server.address, "--port", str(inventory.port)])
    return f'splitfl serve "$SPLITFL_EXPERIMENT" {own} --out "$SPLITFL_LOOP"'


def _join(inventory: Inventory, node: Node, transport: Mapping[str, Any]) -> str:
    address = f"{inventory.server.address}:{inventory.port}"
    words = ["--transport", transport["name"], "--client", str(inventory.clients.index(node))]
    words += ["--timeout", str(_JOIN_S)]
    secrets = transport.get("secrets", "")
    for option, value in (("--secrets", secrets), ("--data", node.data), ("--device", node.device)):
        words += [option, value] if value else []
    return f'splitfl join {address} {shlex.join(words)} --state "$SPLITFL_LOOP/state"'
