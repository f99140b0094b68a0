"""Runs of the command line: with `splitfl join` processes on this machine as clients, or those of others."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from experiments.live.radio_record import RadioRecorder
from splitfl.cluster.ray_clients import clients_on
from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.runtime.clients import Clients, StartClients
from splitfl.runtime.message_times import MessageTimes
from splitfl.runtime.run import run
from splitfl.runtime.screen import Screen
from splitfl.runtime.serve import Ended, NewFolder, serve
from splitfl.runtime.simulated_clients import OpenClients, in_this_thread
from splitfl.setup.experiment import Experiment
from splitfl.transport.registry import join_arguments, own_transport, transport
from testbed.live import LiveClients, Network
from testbed.local import LocalClients

JOIN: Final = (sys.executable, "-P", "-m", "experiments", "join")
"""Runs this installation's command line; -P keeps an `experiments` of the working directory out."""


def run_here(
    experiment: Experiment,
    new_folder: NewFolder,
    screen: Screen,
    open_clients: OpenClients = in_this_thread,
) -> Ended:
    """Runs server and clients on this machine, over the transport of the settings."""
    radios = RadioRecorder()
    ended = run(
        experiment,
        new_folder,
        radios.shown(screen, experiment.config),
        controller_for=controller_for,
        start_clients=clients_of(experiment.config),
        open_carrier=radios.open_carrier,
        open_radio=radios.open_server_radio,
        open_clients=open_clients,
    )
    return radios.saved(ended)


def serve_others(
    experiment: Experiment, new_folder: NewFolder, screen: Screen, *, times: MessageTimes | None = None
) -> Ended:
    """Runs the server, whose clients are started by others; see `serve`."""
    radios = RadioRecorder()
    ended = serve(
        experiment,
        new_folder,
        radios.shown(screen, experiment.config),
        controller_for=controller_for,
        times=times,
        open_radio=radios.open_server_radio,
    )
    return radios.saved(ended)


def on_backend(on: str | None) -> Callable[..., Ended]:
    """`run_here`, with simulated clients on the backend of this name, if given; see `clients_on`."""
    return run_here if on is None else partial(run_here, open_clients=clients_on(on))


def clients_of(config: RunConfig, live: Network | None = None) -> StartClients:
    """Returns a function that starts a run's clients; raises ConfigError for an unknown transport."""
    clients, threads = range(config.federation.clients), config.client.threads
    for client in clients:  # before data are read
        own = own_transport(config.transport, client)
        transport(own.name).join_options(own)

    def start(address: str, folder: Path) -> Clients:
        commands = [[*JOIN, *join_arguments(config.transport, address, client)] for client in clients]
        if live is not None:
            return LiveClients(live, commands, threads, folder)
        return LocalClients(commands, threads, folder)

    return start
