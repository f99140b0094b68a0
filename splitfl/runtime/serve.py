"""Runs the server of an experiment over a transport: waits for clients, and watches for lost ones."""

import signal
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from splitfl.accounting.ledger import Ledger
from splitfl.config import RunConfig
from splitfl.core.checkpoint import Checkpoint, CheckpointStore
from splitfl.core.errors import Diverged, PeerLost, RejoinRequired, Timeout
from splitfl.core.events import Events
from splitfl.federation.selection import Selection
from splitfl.run_folder.run_trackers import RunTrackers
from splitfl.runtime import process_memory
from splitfl.runtime.clients import Clients, NoClients, StartClients
from splitfl.runtime.message_times import MessageTimes
from splitfl.runtime.screen import Screen
from splitfl.runtime.server_side import server_side
from splitfl.runtime.simulated_clients import threads
from splitfl.server.protocols import RoundPlanner, ServerSide
from splitfl.server.run import Run, write_json
from splitfl.server.session_router import SessionRouter
from splitfl.server.time_limits import Limits, check_run
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict
from splitfl.setup.fault_tolerance import check_fault_tolerance
from splitfl.setup.links import is_carried
from splitfl.transport.base.carrier import OpenServerRadio, ServerRadio, no_radio
from splitfl.transport.base.transport import ServerEnd
from splitfl.transport.registry import transport

WEIGHTS: Final = "weights"
"""The key of the model's checksums among the settings that the server offers."""
_POLL_S: Final = 0.1
_SHUTDOWN_S: Final = 10.0

NewFolder = Callable[[], Path]
"""Makes the run's folder, once all checks have passed."""
Ended = tuple[Path, dict[str, Any]]
"""The run's folder and its summary."""
ControllerFor = Callable[[RunConfig], Callable[[Ledger, Events], RoundPlanner] | None]
"""Returns a factory of the run's controller, None without `auto.every`."""


def serve(
    experiment: Experiment,
    new_folder: NewFolder,
    screen: Screen,
    *,
    controller_for: ControllerFor,
    start_clients: StartClients | None = None,
    times: MessageTimes | None = None,
    open_radio: OpenServerRadio = no_radio,
) -> Ended:
    """Runs the server over the transport of the settings; without `start_clients` clients join from others.

    `times` records when messages arrived and were answered; `open_radio` opens a transport's radio.

    A run whose folder holds a checkpoint continues from there. Raises PeerLost, naming the client, if one
    fails, does not respond or never joins, unless the settings continue without it.
    """
    config = experiment.config
    check_fault_tolerance(config)
    with ExitStack() as stack:
        side = stack.enter_context(server_side(experiment))
        base_bytes = process_memory.measure_from_here()
        # Clients on other machines have their own copies of the model, which must have the same weights.
        weights = {} if start_clients else dict(side.checksums)
        spec = transport(config.transport.name)
        server = spec.serve(config.transport, config.federation.clients)
        stack.callback(server.stop)
        folder = new_folder()
        write_json(folder / "server.json", spec.location(server.address) | {"spawn": bool(start_clients)})
        server.offer(as_dict(config) | {WEIGHTS: weights})
        clients = start_clients(server.address, folder) if start_clients else NoClients()
        local = stack.enter_context(clients)
        stack.enter_context(threads(config.server.threads))
        radio = stack.enter_context(closing(open_radio(config))) if is_carried(config) else None
        run = _ServerRun(
            experiment, folder, screen, server, local, controller_for(config), times, radio, side
        )
        summary = run.run(base_bytes)
        local.wait(_SHUTDOWN_S)
        return folder, summary


class _ServerRun:
    """The server of one run, restarted from a checkpoint after each rollback."""

    def __init__(
        self,
        experiment: Experiment,
        folder: Path,
        screen: Screen,
        server: ServerEnd,
        local: Clients,
        controller: Callable[[Ledger, Events], RoundPlanner] | None,
        times: MessageTimes | None,
        radio: ServerRadio | None,
        side: ServerSide,
    ) -> None:
        self._experiment, self._folder = experiment, folder
        self._screen, self._server, self._local = screen, server, local
        self._fault_tolerance = experiment.config.fault_tolerance
        self._router = SessionRouter(waits_for_restart=self._fault_tolerance.on_loss != "continue")
        self._is_started = False
        self._sessions: dict[int, int] = {}
        self._announced: set[tuple[int, int]] = set()
        self._began_s = time.monotonic()
        self._controller, self._radio, self._side = controller, radio, side
        handle = self._router.handle if times is None else times.served(self._router.handle)
        self._handle = radio.handler(handle) if radio else handle

    def run(self, base_bytes: int) -> dict[str, Any]:
        """Runs until the run is over; returns its summary."""
        track = partial(RunTrackers, self._folder, self._experiment.config, self._screen.note)
        begin = partial(Run, self._experiment, self._folder, self._screen, track=track, side=self._side)
        begin = partial(begin, controller=self._controller, carrier=self._radio)
        while True:
            with begin(newest=self._newest_checkpoint()) as run:
                try:
                    self._run_once(run)
                except RejoinRequired as reason:
                    self._screen.note(f"{reason}; rolling back to the last checkpoint")
                    self._router.disconnect(reason)
                    continue
                except Diverged as error:
                    self._router.disconnect(error)
                    raise run.diverged(error) from None
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt):
                        signal.signal(
                            signal.SIGINT, signal.SIG_DFL
                        )  # a second interrupt ends the process at once
                    failure = error if isinstance(error, Exception) else PeerLost("the run was interrupted")
                    self._router.disconnect(failure)
                    run.fail(str(failure))
                    raise
                return run.finish(self._memory(run, base_bytes))

    def _newest_checkpoint(self) -> Checkpoint | None:
        newest = CheckpointStore(self._folder / "checkpoint").newest()
        for damage in newest.unreadable if newest is not None else ():
            self._screen.note(f"{damage}; using the one before")
        return newest

    def _run_once(self, run: Run) -> None:
        missing = self._await_clients()
        self._router.connect(run.server_loop)
        if not self._is_started:
            self._is_started = True
            self._server.start(self._handle)
        for client, what in missing.items():
            self._without(run, client, what)
        self._watch(run)

    def _await_clients(self) -> dict[int, str]:
        """Clients that did not join in time and are not required, each with a sentence."""
        config, address = self._experiment.config, self._server.address
        timeout_s = (
            self._fault_tolerance.reconnect_timeout_s if self._is_started else config.transport.join_timeout_s
        )
        deadline_s = time.monotonic() + timeout_s
        while missing := self._server.missing():
            self._screen.waiting(address, missing)
            for client, what in self._local.dead().items():
                self._restart_or_abort(client, what)
            if time.monotonic() > deadline_s:
                break
            time.sleep(_POLL_S)
        self._screen.waiting(address, [])
        names = ", ".join(map(str, missing))
        is_few = config.federation.clients - len(missing) < self._fault_tolerance.min_clients
        if missing and (is_few or self._fault_tolerance.on_loss != "continue"):
            raise Timeout(f"client {names} did not join at {address} within {timeout_s:g} s")
        return {client: f"client {client} did not join within {timeout_s:g} s" for client in missing}

    def _watch(self, run: Run) -> None:
        few_since_s: float | None = None
        takes_part = Selection.of(self._experiment.config).takes_part
        limits = Limits(self._fault_tolerance, run.server_loop, time.monotonic(), takes_part)
        while not run.is_over:
            if self._router.failure is not None:
                raise self._router.failure
            for client, what in self._lost(run).items():
                self._without(run, client, what)
            self._announce_replaced(run)
            is_few = (
                self._experiment.config.federation.clients - len(run.server_loop.membership.absent)
                < self._fault_tolerance.min_clients
            )
            now_s = time.monotonic()
            few_since_s = (few_since_s or now_s) if is_few else None
            if few_since_s is not None and now_s - few_since_s > self._fault_tolerance.reconnect_timeout_s:
                away = ", ".join(map(str, sorted(run.server_loop.membership.absent)))
                raise PeerLost(
                    f"client {away} did not rejoin within {self._fault_tolerance.reconnect_timeout_s:g} s"
                )
            check_run(self._fault_tolerance, now_s - self._began_s)
            if not is_few:
                self._enforce(limits, run, now_s)
            time.sleep(_POLL_S)

    def _enforce(self, limits: Limits, run: Run, now_s: float) -> None:
        for client, what in limits.slow(now_s).items():
            self._without(run, client, what)
        round_index, late = limits.late(now_s)
        for client in sorted(late):
            within = f"within {self._fault_tolerance.round_s:g} s (fault_tolerance.round_s)"
            self._skip_client(run, client, round_index, within)
        if (straggler := limits.straggler()) is not None:
            round_index, client = straggler
            before = f"before a quorum of {self._fault_tolerance.quorum} others (fault_tolerance.quorum)"
            self._skip_client(run, client, round_index, before)

    def _skip_client(self, run: Run, client: int, round_index: int, when: str) -> None:
        self._screen.note(
            f"client {client} did not finish round {round_index} {when}; it is skipped until the next round"
        )
        run.server_loop.membership.lost(client, until=round_index + 1)

    def _lost(self, run: Run) -> dict[int, str]:
        """Clients that are lost, each with the reason."""
        timeout_s = self._experiment.config.transport.timeout_s
        lost = {c: f"client {c} sent nothing for {timeout_s:g} s and is lost" for c in self._server.silent()}
        lost |= {c: f"client {c} was lost, and rejoins" for c in self._router.rejoining()}
        lost |= self._local.dead()
        known = run.server_loop.membership.left.keys() | run.server_loop.membership.absent
        return {client: what for client, what in lost.items() if client not in known}

    def _announce_replaced(self, run: Run) -> None:
        """Announces clients that were replaced by a new process before their loss was detected."""
        for change in self._server.changes():
            client, before = change.client, self._sessions.get(change.client, 1)
            if change.is_here and change.session > before:
                self._sessions[client] = change.session
                if self._fault_tolerance.on_loss == "continue" and (client, before) not in self._announced:
                    self._announce(run, client, f"client {client} was lost, and another process replaces it")

    def _without(self, run: Run, client: int, what: str) -> None:
        """Handles a lost client by `fault_tolerance.on_loss`; raises unless that is 'continue'."""
        match self._fault_tolerance.on_loss:
            case "continue":
                self._announced.add((client, self._sessions.get(client, 1)))
                self._announce(run, client, what)
                run.server_loop.membership.lost(client)
                self._local.restart(client)
            case "rollback":
                self._local.restart(client)
                raise RejoinRequired(what)
            case _:
                raise PeerLost(what)

    def _announce(self, run: Run, client: int, what: str) -> None:
        self._screen.note(f"{what}; the others continue")
        run.events.write("lost", client=client, reason=what)

    def _restart_or_abort(self, client: int, what: str) -> None:
        if self._fault_tolerance.on_loss == "abort":
            raise PeerLost(what)
        self._screen.note(what)
        self._local.restart(client)

    def _memory(self, run: Run, base_bytes: int) -> list[Mapping[str, Any]]:
        rows = [process_memory.row("server", None, base_bytes), *self._side.memory()]
        for client, leave in sorted(run.server_loop.membership.left.items()):
            if leave.peak_bytes is not None and leave.base_bytes is not None:
                peak, base = leave.peak_bytes, leave.base_bytes
                rows.append({"side": "client", "client": client, "peak_bytes": peak, "base_bytes": base})
        return rows
