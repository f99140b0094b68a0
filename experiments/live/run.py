"""An experiment over a live link: real packets between network namespaces of this machine."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from channel.core.errors import BadParameter
from channel.live.emulation import Emulation
from channel.live.switch import DeliveryOrder
from experiments.local_clients import clients_of
from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.core.errors import ConfigError
from splitfl.runtime.screen import Screen
from splitfl.runtime.serve import Ended, NewFolder, serve
from splitfl.server.run import write_json
from splitfl.setup.experiment import Experiment
from splitfl.setup.links import link_or_scenario
from splitfl.transport.base.spec import TransportSpec
from splitfl.transport.registry import TRANSPORTS, between_processes, transport
from testbed.live import LiveLink, Network
from testbed.namespaces import Namespace


def run_live(experiment: Experiment, new_folder: NewFolder, screen: Screen) -> Ended:
    """Runs server and clients in network namespaces; the summary's `live` has the link's measurements.

    Raises NotRoot without root, ConfigError for settings that a live link does not support.
    """
    config = experiment.config
    check_supported(config)
    with LiveLink(emulation_of(experiment), config.live.congestion) as live:
        folder, summary = serve_in(live.server, live.addresses[0], live, experiment, new_folder, screen)
        measured = live.finish()
    return folder, saved(folder, {**summary, "live": measured})


def serve_in(
    namespace: Namespace,
    address: str,
    network: Network,
    experiment: Experiment,
    new_folder: NewFolder,
    screen: Screen,
) -> Ended:
    """Runs the server at this address in its namespace, and a client in each of the network's.

    TCP retransmits lost packets, so no message is lost; nor may the virtual clock lose any.
    """
    config = experiment.config
    reliable = replace(
        config,
        link=replace(config.link, max_tries=0),
        transport=replace(config.transport, host=address),
    )
    with namespace.inside():
        return serve(
            replace(experiment, config=reliable),
            new_folder,
            screen,
            controller_for=controller_for,
            start_clients=clients_of(reliable, network),
        )


def emulation_of(experiment: Experiment) -> Emulation:
    """The live link of an experiment's settings; raises ConfigError for invalid ones."""
    config = experiment.config
    try:
        return Emulation(
            air=link_or_scenario(config),
            clients=config.federation.clients,
            order=DeliveryOrder(
                seed=config.train.seed, jitter_s=config.live.jitter_s, in_order=config.live.in_order
            ),
            queue_bytes=config.live.queue_bytes,
            mtu_bytes=config.link.mtu_bytes,
        )
    except BadParameter as error:
        raise ConfigError(str(error)) from None


def _reaches_out(spec: TransportSpec) -> bool:
    """Whether its messages cross a namespace's own network: a broker, or an air, is outside of it."""
    return not spec.in_process and spec.own_host and spec.describe_link is None and not spec.combines


def check_supported(config: RunConfig) -> None:
    """Raises ConfigError for settings that TCP cannot provide: erasures and analog symbols."""
    spec = transport(config.transport.name)
    if not _reaches_out(spec):
        able = (name for name in between_processes() if _reaches_out(TRANSPORTS[name]))
        names, got = " or ".join(able), config.transport.name
        raise ConfigError(f"transport.name must be {names} between network namespaces, got {got!r}")
    for kind, got in config.erasure.by_kind().items():
        if got != "reliable":
            raise ConfigError(
                f"erasure.{kind} must be 'reliable' over TCP, which retransmits losses, got {got!r}"
            )
    if config.analog.kinds:
        raise ConfigError(f"analog.kinds must be empty over TCP, which is digital, got {config.analog.kinds}")


def saved(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    """Writes summary.json again; returns the summary."""
    write_json(folder / "summary.json", summary)
    return summary
