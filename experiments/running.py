"""Runs an experiment from its settings on this machine: in one process, or as server and clients."""

import time
from pathlib import Path
from typing import Any

from experiments.serving import Ended, NewFolder, Screen, serve
from splitfl.checkpoint import Shelf
from splitfl.errors import Diverged
from splitfl.memory import keep_freed_memory
from splitfl.node.build import Site
from splitfl.node.client import ClientNode
from splitfl.node.inproc import run_inproc
from splitfl.node.limits import check_run
from splitfl.node.run import Run


def run_here(site: Site, new_folder: NewFolder, screen: Screen) -> Ended:
    """The whole experiment on this machine, by the transport of its settings.

    A run whose folder holds a checkpoint is gone on with.
    """
    if site.config.transport.name == "inproc":
        return _run_in_one_process(site, new_folder(), screen)
    return serve(site, new_folder, screen, spawn=True)


def _run_in_one_process(site: Site, folder: Path, screen: Screen) -> tuple[Path, dict[str, Any]]:
    keep_freed_memory()
    began_s = time.monotonic()

    def in_time() -> None:
        check_run(site.config.survival, time.monotonic() - began_s)

    shelves = folder / "checkpoint"
    nodes = [
        ClientNode.of(site, client, Shelf.of_client(shelves / f"client-{client}"))
        for client in range(site.config.federation.clients)
    ]
    kept = Shelf(shelves).newest()
    for damage in kept.unreadable if kept is not None else ():
        screen.said(f"{damage}; the one before is used")
    with Run(site, folder, screen, kept) as run:
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
