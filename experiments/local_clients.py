"""Runs whose clients are `splitfl join` processes on this machine, optionally over a live link."""

import sys
from pathlib import Path
from typing import Final

from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.runtime.clients import Clients, StartClients
from splitfl.runtime.run import run
from splitfl.runtime.screen import Screen
from splitfl.runtime.serve import Ended, NewFolder
from splitfl.setup.experiment import Experiment
from splitfl.transport.registry import join_options
from testbed.live import LiveClients, Network
from testbed.local import LocalClients
from testbed.radio.tokens.on_demand import open_carrier, open_server_radio

JOIN: Final = (sys.executable, "-P", "-m", "experiments", "join")
"""Runs this installation's command line; -P keeps an `experiments` of the working directory out."""


def run_here(experiment: Experiment, new_folder: NewFolder, screen: Screen) -> Ended:
    """Runs server and clients on this machine, over the transport of the settings."""
    return run(
        experiment,
        new_folder,
        screen,
        controller_for=controller_for,
        start_clients=clients_of(experiment.config),
        open_carrier=open_carrier,
        open_radio=open_server_radio,
    )


def clients_of(config: RunConfig, live: Network | None = None) -> StartClients:
    """Returns a function that starts a run's clients; raises ConfigError for an unknown transport."""
    options, clients, threads = (
        join_options(config.transport),
        config.federation.clients,
        config.client.threads,
    )

    def start(address: str, folder: Path) -> Clients:
        command = [*JOIN, address, *options]
        if live is not None:
            return LiveClients(live, command, clients, threads, folder)
        return LocalClients(command, clients, threads, folder)

    return start
