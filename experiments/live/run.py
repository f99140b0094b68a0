"""A whole experiment over a live link: real packets between network namespaces of this machine."""

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
from splitfl.setup.links import air_of
from splitfl.transport.registry import TRANSPORTS, between_processes, transport
from testbed.live import LiveLink


def run_live(site: Experiment, new_folder: NewFolder, screen: Screen) -> Ended:
    """Server and clients each in a namespace of their own; the summary's `live` is what the link measured.

    Raises NotRoot without root, ConfigError for settings that a live link cannot have.
    """
    config = site.config
    _demand_carried(config)
    with LiveLink(emulation_of(site), config.live.congestion) as live:
        # TCP delivers all that the air loses, so no message is ever lost for good: the virtual clock, which
        # goes on beside the live link to say what it expects, must not lose any either.
        carried = replace(
            config,
            link=replace(config.link, max_tries=0),
            transport=replace(config.transport, host=live.addresses[0]),
        )
        with live.server.inside():
            folder, summary = serve(
                replace(site, config=carried),
                new_folder,
                screen,
                controller_for=controller_for,
                start_clients=clients_of(carried, live),
            )
        measured = live.finish()
    return folder, _kept(folder, {**summary, "live": measured})


def emulation_of(site: Experiment) -> Emulation:
    """The live link that an experiment's settings describe; ConfigError where they describe none."""
    config = site.config
    try:
        return Emulation(
            air=air_of(config),
            clients=config.federation.clients,
            order=DeliveryOrder(
                seed=config.train.seed, jitter_s=config.live.jitter_s, in_order=config.live.in_order
            ),
            queue_bytes=config.live.queue_bytes,
            mtu_bytes=config.link.mtu_bytes,
        )
    except BadParameter as error:
        raise ConfigError(str(error)) from None


def _demand_carried(config: RunConfig) -> None:
    """Raises ConfigError for what cannot be had over TCP, which loses nothing and carries bits."""
    spec = transport(config.transport.name)
    if spec.in_process or not spec.own_host:  # a broker cannot be reached from a namespace
        able = (name for name in between_processes() if TRANSPORTS[name].own_host)
        names, got = " or ".join(able), config.transport.name
        raise ConfigError(f"transport.name must be {names} for a live link, got {got!r}")
    for kind, got in config.erasure.by_kind().items():
        if got != "reliable":
            raise ConfigError(
                f"erasure.{kind} must be 'reliable' over a live link, where TCP sends again what is lost, "
                f"got {got!r}"
            )
    if config.analog.kinds:
        raise ConfigError(
            f"analog.kinds must be empty over a live link, which carries bits, got {config.analog.kinds}"
        )


def _kept(folder: Path, summary: dict[str, Any]) -> dict[str, Any]:
    write_json(folder / "summary.json", summary)
    return summary
