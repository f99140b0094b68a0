"""A batch job on this machine, from the files for Colosseum: nodes in namespaces on an emulated channel."""

import ipaddress
import shutil
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from channel.core.errors import BadParameter
from channel.core.link import Link
from channel.live.emulation import Emulation
from channel.live.switch import DeliveryOrder
from channel.scenario.load import Scenario
from splitfl.core.errors import ConfigError
from testbed.colosseum.batch_file import BatchJob, read_batch
from testbed.colosseum.conductor import Conductor, Rehearsal
from testbed.colosseum.radio_conf import RadioConf, load_radio_conf
from testbed.colosseum.rehearsed_node import RehearsedNode
from testbed.colosseum.rules import Rules
from testbed.inventory.nodes import SERVER
from testbed.live import LiveLink

# The example of radio_command_and_control_c2_api; nothing here reads it but people.
_CONFIG_INI: Final = """[RF]
center_frequency = 1000000000
rf_bandwidth = 20000000

[COLLABORATION]
collab_server_ip = 172.30.197.2
collab_server_port = 5556
collab_client_port = 5557
collab_peer_port = 5558
"""


def rehearse(
    folder: Path,
    name: str,
    air: Link | Scenario,
    results: Path,
    *,
    rules: Rules,
    scenario_nodes: int = 0,
    report: Callable[[str], None] = lambda text: None,
) -> tuple[Rehearsal, dict[str, Any]]:
    """Plays the batch job `name` of a folder with batch/ and config/; the nodes' logs go to `results`.

    Returns the outcome and the emulated channel's measurements. Needs root. Raises ConfigError for files
    that Colosseum would refuse, and for a server whose address is not the first of a network of 24 bits.
    """
    batch = read_batch(folder / "batch" / f"{name}.json", rules, scenario_nodes)
    paths = [folder / "config" / node.config for node in batch.nodes]
    confs = [load_radio_conf(path) for path in paths]
    for node, conf in zip(batch.nodes, confs, strict=True):
        if conf.loops != batch.loops:
            raise ConfigError(f"{node.config}: loops must be the batch's {batch.loops}, got {conf.loops}")
    emulation = _emulation(air, confs)
    with TemporaryDirectory(prefix="splitfl-batch-") as root, LiveLink(emulation, "reno") as live:
        clients = iter(live.clients)
        nodes = [
            RehearsedNode(
                conf.node,
                Path(root) / conf.node,
                live.server if conf.role == SERVER else next(clients),
                radio_conf=path,
                config_ini=_CONFIG_INI,
            )
            for path, conf in zip(paths, confs, strict=True)
        ]
        try:
            played = Conductor(batch=batch, nodes=nodes, report=report).play()
            measured = live.finish()
        finally:
            _save_logs(nodes, batch, results)
    return played, measured


def _emulation(air: Link | Scenario, confs: list[RadioConf]) -> Emulation:
    """The emulated channel, whose base station is the server's node."""
    servers = [conf for conf in confs if conf.role == SERVER]
    if len(servers) != 1 or len(confs) < 2:
        raise ConfigError(f"a rehearsal needs one server and at least one other node, got {len(servers)}")
    address = ipaddress.IPv4Address(servers[0].address)
    network = ipaddress.IPv4Network(f"{address}/24", strict=False)
    if address != network[1]:
        raise ConfigError(
            f"a rehearsal needs a server with the first address of its network, {network[1]}, got {address}"
        )
    try:
        return Emulation(air=air, clients=len(confs) - 1, order=DeliveryOrder(seed=0), network=str(network))
    except BadParameter as error:
        raise ConfigError(str(error)) from None


def _save_logs(nodes: list[RehearsedNode], batch: BatchJob, results: Path) -> None:
    """Copies /logs of each node, as Colosseum does into the reservation's folder."""
    for node, job in zip(nodes, batch.nodes, strict=True):
        shutil.copytree(node.logs, results / f"rehearsal--srn-{job.rf_node}", dirs_exist_ok=True)
