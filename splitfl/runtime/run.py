"""Runs an experiment from its settings on this machine: in one process, or as server and clients."""

import time
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from splitfl.client.client import ClientNode
from splitfl.core.allocator import keep_freed_memory
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import ConfigError, Diverged
from splitfl.run_folder.run_trackers import RunTrackers
from splitfl.runtime.clients import StartClients
from splitfl.runtime.screen import Screen
from splitfl.runtime.serve import ControllerFor, Ended, NewFolder, serve
from splitfl.runtime.server_side import server_side
from splitfl.runtime.simulate import run_inproc
from splitfl.runtime.simulated_clients import OpenClients, SimulatedClients, in_this_thread
from splitfl.server.protocols import ServerSide
from splitfl.server.run import Run
from splitfl.server.time_limits import check_run
from splitfl.setup.experiment import Experiment
from splitfl.setup.links import is_carried
from splitfl.transport.base.carrier import Carrier, OpenCarrier, OpenServerRadio, no_radio
from splitfl.transport.registry import transport
from splitfl.wire.codec_meter import CodecMeter


def run(
    experiment: Experiment,
    new_folder: NewFolder,
    screen: Screen,
    *,
    controller_for: ControllerFor,
    start_clients: StartClients,
    open_carrier: OpenCarrier = no_radio,
    open_radio: OpenServerRadio = no_radio,
    open_clients: OpenClients = in_this_thread,
) -> Ended:
    """Runs the experiment on this machine, over the transport of its settings.

    A run whose folder holds a checkpoint continues from there. `open_clients` simulates the clients of the
    in-process transport; raises ConfigError for other ones with another transport.
    """
    name = experiment.config.transport.name
    if transport(name).in_process:
        return run_in_one_process(
            experiment,
            new_folder,
            screen,
            controller_for=controller_for,
            open_carrier=open_carrier,
            open_clients=open_clients,
        )
    if open_clients is not in_this_thread:
        raise ConfigError(f"transport.name must be 'inproc' with clients simulated elsewhere, got {name!r}")
    return serve(
        experiment,
        new_folder,
        screen,
        controller_for=controller_for,
        start_clients=start_clients,
        open_radio=open_radio,
    )


def run_in_one_process(
    experiment: Experiment,
    new_folder: NewFolder,
    screen: Screen,
    *,
    controller_for: ControllerFor,
    open_carrier: OpenCarrier = no_radio,
    open_clients: OpenClients = in_this_thread,
) -> Ended:
    """Runs the experiment with its server in this process; see `run`."""
    with ExitStack() as stack:
        clients = stack.enter_context(open_clients(experiment))
        carrier = None
        if is_carried(experiment.config):
            carrier = stack.enter_context(closing(open_carrier(experiment.config)))
        side = stack.enter_context(server_side(experiment))
        return _run_in_one_process(experiment, new_folder, screen, controller_for, carrier, side, clients)


def _run_in_one_process(
    experiment: Experiment,
    new_folder: NewFolder,
    screen: Screen,
    controller_for: ControllerFor,
    carrier: Carrier | None,
    side: ServerSide,
    clients: SimulatedClients,
) -> Ended:
    keep_freed_memory()
    folder, began_s = new_folder(), time.monotonic()

    def check_time() -> None:
        check_run(experiment.config.fault_tolerance, time.monotonic() - began_s)

    checkpoint_folder = folder / "checkpoint"
    meter = CodecMeter()
    nodes = [
        ClientNode.of(
            experiment, client, _checkpoints(experiment, checkpoint_folder, client), clients.method, meter
        )
        for client in range(experiment.config.federation.clients)
    ]
    newest = CheckpointStore(checkpoint_folder).newest()
    for damage in newest.unreadable if newest is not None else ():
        screen.note(f"{damage}; using the one before")
    track = partial(RunTrackers, folder, experiment.config, screen.note)
    controller = controller_for(experiment.config)
    with Run(experiment, folder, screen, newest, controller, track, carrier, side) as server_run:
        try:
            for node in nodes:
                node.restore(server_run.first_round)
            run_inproc(
                experiment.config,
                nodes,
                server_run.server_loop,
                server_run.first_round,
                on_round=check_time,
                start=clients.start,
            )
        except Diverged as error:
            raise server_run.diverged(error) from None
        except BaseException as error:
            server_run.fail(str(error) if isinstance(error, Exception) else "the run was interrupted")
            raise
        return folder, server_run.finish([])


def _checkpoints(experiment: Experiment, folder: Path, client: int) -> CheckpointStore | None:
    if not experiment.config.fault_tolerance.checkpoint_every:
        return None
    return CheckpointStore.of_client(folder / f"client-{client}")
