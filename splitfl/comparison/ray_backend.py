"""Runs as tasks of a Ray cluster: settings go out as JSON, run folders come back as archives.

No disk is shared. The runs of a node that dies are repeated on others; an error of splitfl is not retried.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitfl.cluster.node_state import NamedFile, files_of
from splitfl.cluster.ray_cluster import Origin, check_nodes, connected, gpus_of, imported, lack_of_room, nodes
from splitfl.comparison.folder_archive import pack, unpack
from splitfl.comparison.runs import OnDone, SeedRun, error_of
from splitfl.config import RunConfig
from splitfl.config.plugin import value_of
from splitfl.core.errors import ConfigError, PeerLost, WireError
from splitfl.run_folder.create import command_line
from splitfl.runtime.quiet import quiet
from splitfl.setup.experiment_file import as_dict, from_dict

_RETRIES: Final = 3
"""Repetitions of a run whose process or node dies."""
_CHECK_EVERY_S: Final = 10.0
_FETCH_S: Final = 300.0


@dataclass(frozen=True)
class RayBackend:
    """The cluster at `address`: HOST:PORT, `auto` (that of this machine) or `local` (started for the runs).

    A run occupies as many CPUs as it has threads, and the GPUs of its devices; a device `auto` is a GPU if
    the cluster has any.
    """

    address: str
    _ray: Any = field(repr=False, compare=False)

    @classmethod
    def at(cls, address: str) -> "RayBackend":
        """The backend of `ray:ADDRESS`; raises ConfigError without Ray or for a bad address."""
        return cls(address, imported(address))

    @property
    def description(self) -> str:
        return f"on Ray ({self.address})"

    def execute(self, runs: Sequence[SeedRun], on_done: OnDone) -> None:
        """See `Backend.execute`. Raises PeerLost if the cluster cannot be reached or its nodes are lost."""
        files: set[NamedFile] = set()
        for run in runs:
            check_tracking(run.config)
            files |= files_of(run.config)
        with connected(self._ray, self.address):
            found = nodes(self._ray)
            has_gpus = any(node["Resources"].get("GPU") for node in found)
            needs = {run.folder: needs_of(run.config, has_gpus) for run in runs}
            for need in needs.values():
                if lack := lack_of_room(found, need):
                    raise ConfigError(lack)
            origin = check_nodes(self._ray, found, files)
            self._execute(runs, needs, origin, on_done)

    def _execute(
        self,
        runs: Sequence[SeedRun],
        needs: Mapping[Path, Mapping[str, int]],
        origin: Origin,
        on_done: OnDone,
    ) -> None:
        waiting = {self._submit(run, needs[run.folder], origin): run for run in runs}
        try:
            while waiting:
                done, _ = self._ray.wait(list(waiting), num_returns=1, timeout=_CHECK_EVERY_S)
                for one in done:
                    run = waiting[one]
                    error = self._receive(one, run.folder)
                    del waiting[one]
                    on_done(run, error)
                if not done:
                    self._check_room([needs[run.folder] for run in waiting.values()])
        finally:
            for one in waiting:
                self._ray.cancel(one, force=True)

    def _submit(self, run: SeedRun, need: Mapping[str, int], origin: Origin) -> Any:
        task = self._ray.remote(num_cpus=need["CPU"], num_gpus=need["GPU"], max_retries=_RETRIES)(run_on_node)
        return task.remote(json.dumps(as_dict(run.config)), run.folder.name, origin, command_line())

    def _receive(self, one: Any, folder: Path) -> str | None:
        """Writes the folder of a run that has ended; the run's error, if any."""
        errors = self._ray.exceptions
        try:
            reason, archive = self._ray.get(one, timeout=_FETCH_S)
            if archive:
                unpack(archive, folder)
        except errors.RayTaskError:  # a bug
            raise
        except (errors.RayError, WireError) as error:
            return f"the run was lost on the Ray cluster: {error}"
        assert reason is None or isinstance(reason, str)
        return reason

    def _check_room(self, needs: Sequence[Mapping[str, int]]) -> None:
        """Raises PeerLost if no node is left for a run, which would wait for ever."""
        found = nodes(self._ray)
        for need in needs:
            if lack := lack_of_room(found, need):
                raise PeerLost(lack)


def run_on_node(settings: str, name: str, origin: Origin, command: str) -> tuple[str | None, bytes]:
    """In a process of a node: runs the experiment; its error, if any, and the archive of its folder."""
    if different := origin.difference_here():
        return different, b""
    quiet()
    with tempfile.TemporaryDirectory(prefix="splitfl-") as parent:
        folder = Path(parent) / name
        error = error_of(from_dict(json.loads(settings)), folder, command)
        try:
            return error, pack(folder)
        except WireError as too_large:
            return str(too_large), b""


def needs_of(config: RunConfig, has_gpus: bool) -> dict[str, int]:
    """The CPUs and GPUs of a run: as many GPUs as the indices of its devices need."""
    gpus = gpus_of({config.client.device, config.server.device}, has_gpus)
    return {"CPU": max(config.client.threads, config.server.threads), "GPU": gpus}


def check_tracking(config: RunConfig) -> None:
    """Raises ConfigError for a tracker whose record would stay in a file of the node."""
    uri = value_of(config, "tracking.mlflow_uri")
    if uri is not None and not uri.startswith(("http://", "https://")):
        raise ConfigError(f"tracking.mlflow_uri must be an http address for runs on a cluster, got {uri!r}")
