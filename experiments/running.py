"""Runs an experiment from its settings on this machine: in one process, or as server and clients."""

import time
from pathlib import Path
from typing import Any

from experiments.serving import Ended, NewFolder, Screen, serve
from splitfl.client.client import ClientNode
from splitfl.controller.dry_run import controller_for
from splitfl.core.allocator import keep_freed_memory
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import Diverged
from splitfl.runtime.simulate import run_inproc
from splitfl.server.run import Run
from splitfl.server.time_limits import check_run
from splitfl.setup.experiment import Experiment


def run_here(site: Experiment, new_folder: NewFolder, screen: Screen) -> Ended:
    """The whole experiment on this machine, by the transport of its settings.

    A run whose folder holds a checkpoint is gone on with.
    """
    if site.config.transport.name == "inproc":
        return _run_in_one_process(site, new_folder(), screen)
    return serve(site, new_folder, screen, spawn=True)


def _run_in_one_process(site: Experiment, folder: Path, screen: Screen) -> tuple[Path, dict[str, Any]]:
    keep_freed_memory()
    began_s = time.monotonic()

    def in_time() -> None:
        check_run(site.config.fault_tolerance, time.monotonic() - began_s)

    shelves = folder / "checkpoint"
    nodes = [
        ClientNode.of(site, client, CheckpointStore.of_client(shelves / f"client-{client}"))
        for client in range(site.config.federation.clients)
    ]
    kept = CheckpointStore(shelves).newest()
    for damage in kept.unreadable if kept is not None else ():
        screen.said(f"{damage}; the one before is used")
    with Run(site, folder, screen, kept, controller_for(site.config)) as run:
        try:
            for node in nodes:
                node.go_to(run.first_round)
            run_inproc(site.config, nodes, run.station, run.first_round, on_round=in_time)
        except Diverged as error:
            raise run.diverged(error) from None
        except BaseException as error:
            run.fail(str(error) if isinstance(error, Exception) else "the run was interrupted")
            raise
        return folder, run.finish([])
