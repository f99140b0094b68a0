"""Runs an experiment from its settings: here in one process, or as server and clients over PyTorch RPC."""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from splitfl.config import RunConfig
from splitfl.errors import PeerLost, Timeout
from splitfl.experiment_file import as_dict, from_dict
from splitfl.memory import forget_peak, keep_freed_memory, peak_resident_bytes, resident_bytes
from splitfl.messages import Message
from splitfl.node.build import Site
from splitfl.node.client import ClientNode, run_client
from splitfl.node.guard import Guard
from splitfl.node.inproc import run_inproc, threads
from splitfl.node.run import Run
from splitfl.node.run import Screen as RunScreen
from splitfl.transport.rpc import RpcClient, RpcServer
from testbed.local import LocalClients

log = logging.getLogger(__name__)

_POLL_S = 0.1
_LAST_WORDS_S = 10.0


class Screen(RunScreen, Protocol):
    """Shows a run, and who is still awaited before it can begin."""

    def waiting(self, address: str, missing: list[int]) -> None:
        """The server listens, and these clients have not come yet."""


NewFolder = Callable[[], Path]
"""Makes the run's folder, once nothing stands in the way of the run."""

Ended = tuple[Path, dict[str, Any]]
"""The run's folder and its summary."""


def run_here(site: Site, new_folder: NewFolder, screen: Screen) -> Ended:
    """The whole experiment on this machine, by the transport of its settings."""
    if site.config.transport.name == "inproc":
        return _run_in_one_process(site, new_folder(), screen)
    return serve(site, new_folder, screen, spawn=True)


def serve(site: Site, new_folder: NewFolder, screen: Screen, *, spawn: bool) -> Ended:
    """The server's side over PyTorch RPC; `spawn` starts the clients on this machine too.

    Raises PeerLost, naming the client, when one dies, falls silent or never comes.
    """
    config = site.config
    transport, clients = config.transport, config.federation.clients
    base_bytes = _measure_from_here()
    server = RpcServer(transport.host, transport.port, clients, transport.timeout_s, transport.join_timeout_s)
    address = f"{server.address}:{server.port}"
    try:
        folder = new_folder()
        server.offer(as_dict(config))
        with (
            _clients(address, config, folder, spawn) as local,
            threads(config.server.threads),
            Run(site, folder, screen) as run,
        ):
            guard = Guard(run.station)
            try:
                _await_clients(server, local, transport.join_timeout_s, screen)
                server.start(guard.handle)
                _watch(server, local, run, guard)
            except BaseException as error:
                failure = error if isinstance(error, Exception) else PeerLost("the run was interrupted")
                guard.fail(failure)
                run.fail(str(failure))
                raise
            memory = [_memory_row("server", None, base_bytes)]
            memory += [
                {"side": "client", "client": client, **{k: int(v) for k, v in leave.values.items()}}
                for client, leave in sorted(run.station.left.items())
            ]
            summary = run.finish(memory)
            local.wait(_LAST_WORDS_S)
            return folder, summary
    finally:
        server.stop()


def join(
    host: str,
    port: int,
    client: int,
    *,
    timeout_s: float,
    adjust: Callable[[RunConfig], RunConfig],
    on_step: Callable[[int, Message], None],
    on_begin: Callable[[RunConfig], None],
) -> None:
    """One client's side over PyTorch RPC, until the run is over.

    `adjust` puts this machine's own paths and device over the settings that the server gave.
    """
    connection = RpcClient(host, port, client, timeout_s)
    try:
        config = adjust(from_dict(connection.experiment))
        base_bytes = _measure_from_here()
        on_begin(config)

        def peak() -> dict[str, float]:
            row = _memory_row("client", client, base_bytes)
            return {"peak_bytes": row["peak_bytes"], "base_bytes": row["base_bytes"]}

        with threads(config.client.threads):
            node = ClientNode(client, Site.of(config).client_method(client))
            connection.enter()
            run_client(node, connection, range(config.federation.rounds), peak, on_step)
    finally:
        connection.leave()


def _run_in_one_process(site: Site, folder: Path, screen: Screen) -> Ended:
    keep_freed_memory()
    clients = range(site.config.federation.clients)
    nodes = [ClientNode(client, site.client_method(client)) for client in clients]
    with Run(site, folder, screen) as run:
        try:
            run_inproc(site.config, nodes, run.station)
        except BaseException as error:
            run.fail(str(error) if isinstance(error, Exception) else "the run was interrupted")
            raise
        return folder, run.finish([])


def _await_clients(
    server: RpcServer, local: "LocalClients | NoClients", timeout_s: float, screen: Screen
) -> None:
    deadline_s = time.monotonic() + timeout_s
    address = f"{server.address}:{server.port}"
    while missing := server.missing():
        screen.waiting(address, missing)
        if dead := local.dead():
            raise PeerLost(dead)
        if time.monotonic() > deadline_s:
            names = ", ".join(map(str, missing))
            raise Timeout(f"no sign of client {names} at {address} within {timeout_s:g} s")
        time.sleep(_POLL_S)
    screen.waiting(address, [])


def _watch(server: RpcServer, local: "LocalClients | NoClients", run: Run, guard: Guard) -> None:
    while not run.is_over:
        if guard.failure is not None:
            raise guard.failure
        if dead := local.dead():
            raise PeerLost(dead)
        silent = [client for client in server.silent() if client not in run.station.left]
        if silent:
            names = ", ".join(map(str, silent))
            raise Timeout(f"client {names} was silent for {server.timeout_s:g} s and is lost")
        time.sleep(_POLL_S)


class NoClients:
    """In place of local clients where all of them are on other machines."""

    def dead(self) -> str | None:
        """Nothing is known of processes elsewhere."""
        return None

    def wait(self, timeout_s: float) -> None:
        """There is nobody to wait for."""

    def __enter__(self) -> "NoClients":
        return self

    def __exit__(self, *error: object) -> None:
        """There is nobody to end."""


def _clients(address: str, config: RunConfig, folder: Path, spawn: bool) -> "LocalClients | NoClients":
    if not spawn:
        return NoClients()
    return LocalClients(address, config.federation.clients, config.client.threads, folder)


def _measure_from_here() -> int:
    """Memory is counted from what the libraries took to be imported."""
    keep_freed_memory()
    forget_peak()
    return resident_bytes()


def _memory_row(side: str, client: int | None, base_bytes: int) -> Mapping[str, Any]:
    return {"side": side, "client": client, "peak_bytes": peak_resident_bytes(), "base_bytes": base_bytes}
