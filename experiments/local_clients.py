"""Runs whose clients are processes of this machine: each a `splitfl join`, also at the end of a live link."""

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
from testbed.live import LiveClients, LiveLink
from testbed.local import LocalClients

JOIN: Final = (sys.executable, "-P", "-m", "experiments", "join")
"""Starts the command line of this code, not of an `experiments` in the folder where it is started."""


def run_here(site: Experiment, new_folder: NewFolder, screen: Screen) -> Ended:
    """The whole experiment on this machine, over the transport of its settings."""
    clients = clients_of(site.config)
    return run(site, new_folder, screen, controller_for=controller_for, start_clients=clients)


def clients_of(config: RunConfig, live: LiveLink | None = None) -> StartClients:
    """What starts the clients of a run of these settings; ConfigError where they do not say how to join."""
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
