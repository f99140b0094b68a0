"""Runs one client of an experiment over a transport, until the run is over."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from splitfl.client.client import ClientNode
from splitfl.client.loop import run_client
from splitfl.config import RunConfig, at_least
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import ConfigError, PeerLost, RunEnded, WireError
from splitfl.core.messages import Leave, Message
from splitfl.federation.selection import Selection
from splitfl.federation.staleness import most_rounds
from splitfl.runtime import process_memory
from splitfl.runtime.serve import WEIGHTS
from splitfl.runtime.simulated_clients import threads
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from splitfl.setup.fault_tolerance import shared_medium
from splitfl.setup.links import is_carried
from splitfl.transport.base.carrier import OpenClientRadio, no_radio
from splitfl.transport.base.spec import Joining, TransportSpec
from splitfl.transport.base.transport import ClientEnd

log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0


def join(
    transport: TransportSpec,
    joining: Joining,
    *,
    state: Path | None = None,
    adjust: Callable[[RunConfig], RunConfig] = lambda config: config,
    on_step: Callable[[int, Message], None] = lambda round_index, message: None,
    on_begin: Callable[[RunConfig], None] = lambda config: None,
    on_disconnect: Callable[[str], None] = lambda reason: None,
    on_experiment: Callable[[Experiment], None] = lambda experiment: None,
    restart: Callable[[], NoReturn] | None = None,
    leaves: Mapping[int, int] | None = None,
    owns_data: bool = False,
    open_radio: OpenClientRadio = no_radio,
) -> None:
    """Joins a run over this transport and takes part until its end.

    `leaves` maps a round to the number of rounds of absence that start with it. `adjust` overrides the
    server's settings with this machine's paths and device; a client that `owns_data` trains on all its
    samples. `on_experiment` is called once data and model are read. `state` is the folder of the client's
    checkpoints, if given. After a lost connection the client reconnects within
    `fault_tolerance.reconnect_timeout_s`, and calls `on_disconnect` with the reason. Over a transport that
    cannot resume, `restart` restarts this process if there is a `state`; else raises PeerLost.
    """
    connection = transport.join(joining)
    session, radio, stack = None, None, ExitStack()
    try:
        if not connection.experiment:
            raise WireError("the server sent no experiment")
        settings = dict(connection.experiment)
        weights = settings.pop(WEIGHTS, {})
        config = adjust(from_dict(settings))
        _check_leaves(leaves or {}, config)
        on_begin(config)
        base_bytes = process_memory.measure_from_here()
        experiment = Experiment.of_client(config, joining.client, owns_data=owns_data, weights=weights)
        on_experiment(experiment)
        session = _ClientSession(experiment, joining.client, state, on_step, leaves, base_bytes)
        if is_carried(config):
            radio = stack.enter_context(closing(open_radio(config, joining.client)))
        while True:
            try:
                session.run(radio.over(connection) if radio is not None else connection)
                return
            except RunEnded:
                raise
            except PeerLost as lost:
                if not transport.resumes and (restart is None or state is None):
                    raise
                connection.leave()
                on_disconnect(str(lost))
                if not transport.resumes and restart is not None:
                    restart()
                timeout_s = config.fault_tolerance.reconnect_timeout_s
                connection = _reconnect(transport, joining, connection.experiment, timeout_s, lost)
    finally:
        stack.close()
        connection.leave()


class _ClientSession:
    """A client's node, which outlives its connections."""

    def __init__(
        self,
        experiment: Experiment,
        client: int,
        state: Path | None,
        on_step: Callable[[int, Message], None],
        leaves: Mapping[int, int] | None,
        base_bytes: int,
    ) -> None:
        self._config = experiment.config
        self._leaves = leaves
        self._client = client
        self._on_step = on_step
        self._base_bytes = base_bytes
        with threads(experiment.config.client.threads):
            checkpoints = CheckpointStore.of_client(state) if state is not None else None
            self._node = ClientNode.of(experiment, client, checkpoints)

    def run(self, connection: ClientEnd) -> None:
        """Runs the client over this connection until the run is over; raises PeerLost if it breaks."""
        connection.enter()
        with threads(self._config.client.threads):
            run_client(
                self._node,
                connection,
                most_rounds(self._config.federation),
                self._leave,
                self._on_step,
                partial(Selection.of(self._config).takes_part, self._client),
                self._leaves,
            )

    def _leave(self) -> Leave:
        row = process_memory.row("client", self._client, self._base_bytes)
        return replace(self._node.leave(), peak_bytes=row["peak_bytes"], base_bytes=row["base_bytes"])


def _reconnect(
    transport: TransportSpec,
    joining: Joining,
    settings: Mapping[str, Any],
    timeout_s: float,
    lost: PeerLost,
) -> ClientEnd:
    """A new connection to the same run; raises `lost` after `timeout_s`."""
    deadline_s, pause_s = time.monotonic() + timeout_s, _FIRST_PAUSE_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            connection = transport.join(replace(joining, timeout_s=min(joining.timeout_s, left_s)))
        except RunEnded:
            raise
        except (
            PeerLost,
            ConfigError,
        ) as error:  # the server is not up yet, or has not dropped the old connection
            log.info("client %d: %s", joining.client, error)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            continue
        if _decisive(connection.experiment) == _decisive(settings):
            return connection
        connection.leave()
        raise ConfigError("the restarted server has an experiment with other settings")
    raise lost


def _check_leaves(leaves: Mapping[int, int], config: RunConfig) -> None:
    """Raises ConfigError for rounds beyond the run, and for a link that excludes absence."""
    for after, rounds in leaves.items():
        at_least("--rounds-away", rounds, 1)
        if not 0 <= after < config.federation.rounds:
            last = config.federation.rounds - 1
            raise ConfigError(f"--leave-after must lie in 0..{last}, the rounds of the run, got {after}")
    if leaves and (medium := shared_medium(config)):
        raise ConfigError(f"--leave-after cannot be used with {medium} all clients")


def _decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """All tables but [transport] and [tracking], which a restarted server may change."""
    return {name: table for name, table in settings.items() if name not in ("transport", "tracking")}
