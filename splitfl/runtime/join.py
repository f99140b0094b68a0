"""A client's side of an experiment over a transport, until the run is over."""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final, NoReturn

from splitfl.client.client import ClientNode, run_client
from splitfl.config import RunConfig, at_least
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import ConfigError, PeerLost, RunEnded, WireError
from splitfl.core.messages import Leave, Message
from splitfl.federation.selection import Selection
from splitfl.federation.staleness import most_rounds
from splitfl.runtime import process_memory as footprint
from splitfl.runtime.serve import WEIGHTS
from splitfl.runtime.simulate import threads
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
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
    on_away: Callable[[str], None] = lambda reason: None,
    on_site: Callable[[Experiment], None] = lambda site: None,
    anew: Callable[[], NoReturn] | None = None,
    leaves: Mapping[int, int] | None = None,
    owns_data: bool = False,
) -> None:
    """Takes part over this transport, but for so many rounds from each round that `leaves` names.

    `adjust` puts this machine's own paths and device over the settings that the server gave; where the
    client `owns_data`, all training samples are its own. `on_site` is called with what was read, before the
    client is ready. What the client must remember is kept in `state`, if given. A server that goes away is
    looked for again, as long as the settings' patience lasts; `on_away` hears of it. Over a transport that
    does not resume, `anew` restarts this process if there is a `state` to continue from; else it raises
    PeerLost.
    """
    connection = transport.join(joining)
    life = None
    try:
        if not connection.experiment:
            raise WireError("the server did not say what is to be run")
        experiment = dict(connection.experiment)
        weights = experiment.pop(WEIGHTS, {})
        config = adjust(from_dict(experiment))
        _check_leaves(leaves or {}, config)
        on_begin(config)
        base_bytes = footprint.measure_from_here()
        site = Experiment.of_client(config, joining.client, owns_data=owns_data, weights=weights)
        on_site(site)
        life = _Life(site, joining.client, state, on_step, leaves, base_bytes)
        while True:
            try:
                life.live(connection)
                return
            except RunEnded:
                raise
            except PeerLost as lost:
                if not transport.resumes and (anew is None or state is None):
                    raise
                connection.leave()
                on_away(str(lost))
                if not transport.resumes and anew is not None:
                    anew()
                patience_s = config.fault_tolerance.reconnect_timeout_s
                connection = _again(transport, joining, connection.experiment, patience_s, lost)
    finally:
        connection.leave()


class _Life:
    """A client's model and memory, which outlive its connections."""

    def __init__(
        self,
        site: Experiment,
        client: int,
        state: Path | None,
        on_step: Callable[[int, Message], None],
        leaves: Mapping[int, int] | None,
        base_bytes: int,
    ) -> None:
        self._config = site.config
        self._leaves = leaves
        self._client = client
        self._on_step = on_step
        self._base_bytes = base_bytes
        with threads(site.config.client.threads):
            shelf = CheckpointStore.of_client(state) if state is not None else None
            self._node = ClientNode.of(site, client, shelf)

    def live(self, connection: ClientEnd) -> None:
        """Takes part over this connection until the run is over; raises PeerLost where it breaks."""
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
        row = footprint.row("client", self._client, self._base_bytes)
        return Leave(peak_bytes=row["peak_bytes"], base_bytes=row["base_bytes"])


def _again(
    transport: TransportSpec,
    joining: Joining,
    experiment: Mapping[str, Any],
    patience_s: float,
    lost: PeerLost,
) -> ClientEnd:
    """A new connection to the same run; raises `lost` where there is none in time."""
    deadline_s, pause_s = time.monotonic() + patience_s, _FIRST_PAUSE_S
    while (left_s := deadline_s - time.monotonic()) > 0:
        try:
            connection = transport.join(replace(joining, timeout_s=min(joining.timeout_s, left_s)))
        except RunEnded:
            raise
        except (PeerLost, ConfigError) as error:  # it is not up yet, or still believes in our old connection
            log.info("client %d: %s", joining.client, error)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            continue
        if _what_decides(connection.experiment) == _what_decides(experiment):
            return connection
        connection.leave()
        raise ConfigError("the server is back with an experiment of other settings")
    raise lost


def _check_leaves(leaves: Mapping[int, int], config: RunConfig) -> None:
    """ConfigError for rounds that the run has not, and for a link on which nobody can be atransport."""
    for after, rounds in leaves.items():
        at_least("--rounds-away", rounds, 1)
        if not 0 <= after < config.federation.rounds:
            last = config.federation.rounds - 1
            raise ConfigError(f"--leave-after must lie in 0..{last}, so many rounds has the run, got {after}")
    if leaves and config.link.scenario:
        raise ConfigError("--leave-after is of no use with link.scenario, whose cell is never empty")


def _what_decides(experiment: Mapping[str, Any]) -> dict[str, Any]:
    """All but [tracking] and how messages travel, which a server that comes back writes down more exactly."""
    return {name: table for name, table in experiment.items() if name not in ("transport", "tracking")}
