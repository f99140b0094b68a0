"""Runs whose clients are `splitfl join` processes on this machine, optionally over a live link."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from experiments.live.radio_figures import RECORD, totals
from splitfl.cluster.ray_clients import clients_on
from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.runtime.clients import Clients, StartClients
from splitfl.runtime.run import run
from splitfl.runtime.screen import Screen
from splitfl.runtime.serve import Ended, NewFolder
from splitfl.runtime.simulated_clients import OpenClients, in_this_thread
from splitfl.server.run import write_json
from splitfl.setup.experiment import Experiment
from splitfl.transport.registry import join_arguments, own_transport, transport
from testbed.live import LiveClients, Network
from testbed.local import LocalClients
from testbed.radio.tokens.on_demand import open_carrier, open_server_radio

if TYPE_CHECKING:
    from testbed.radio.tokens.carrier import TokenCarrier

JOIN: Final = (sys.executable, "-P", "-m", "experiments", "join")
"""Runs this installation's command line; -P keeps an `experiments` of the working directory out."""


def run_here(
    experiment: Experiment,
    new_folder: NewFolder,
    screen: Screen,
    open_clients: OpenClients = in_this_thread,
) -> Ended:
    """Runs server and clients on this machine, over the transport of the settings.

    Where that is a waveform in this process, the summary's `radio` has totals, the file RECORD the details.
    """
    opened: list[TokenCarrier] = []

    def open_one(config: RunConfig) -> "TokenCarrier":
        opened.append(open_carrier(config))
        return opened[-1]

    folder, summary = run(
        experiment,
        new_folder,
        screen,
        controller_for=controller_for,
        start_clients=clients_of(experiment.config),
        open_carrier=open_one,
        open_radio=open_server_radio,
        open_clients=open_clients,
    )
    for carrier in opened:
        record = carrier.record()
        write_json(folder / RECORD, record)
        summary = {**summary, "radio": totals(record)}
        write_json(folder / "summary.json", summary)
    return folder, summary


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
