"""MLflow: a tracking server, a database or a local folder."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from splitfl.config import group
from splitfl.tracking.spec import RunLabels, TrackedRun, TrackerSpec

if TYPE_CHECKING:
    from mlflow import MlflowClient

BACKEND: Final = "mlflow"
_PATIENCE: Final = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
"""Seconds and retries unless the environment says otherwise: by MLflow's own defaults a server that is gone
would hold up a round for minutes."""
_PARAMETERS_A_BATCH: Final = 100
_LONGEST_PARAMETER: Final = 6000
"""Characters; MLflow refuses longer values."""


@dataclass(frozen=True, kw_only=True)
class MlflowSettings:
    """`mlflow_uri` is the tracking URI, such as sqlite:///mlflow.db (empty: MLFLOW_TRACKING_URI, or
    the default of mlflow)."""

    labels: RunLabels = group(RunLabels)
    mlflow_uri: str = ""


class Mlflow:
    """One MLflow run, addressed by its ID, so that another active run of this process is left alone."""

    def __init__(self, client: "MlflowClient", run_id: str) -> None:
        self._client = client
        self._run_id = run_id

    def log(self, round_index: int, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now_ms = get_current_time_millis()
        rows = [Metric(name, float(value), now_ms, round_index) for name, value in metrics.items()]
        self._client.log_batch(self._run_id, metrics=rows)

    def finish(self, summary: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(f"summary.{key}", str(value)) for key, value in flat(summary)]
        self._client.log_batch(self._run_id, tags=tags)
        self._client.set_terminated(self._run_id, "FINISHED" if summary["status"] == "done" else "FAILED")

    def close(self) -> None:
        """Keeps nothing open: each call above is complete in itself."""


def start(run: TrackedRun) -> Mlflow:
    """A new run, or the same one where the run was resumed."""
    from mlflow import MlflowClient
    from mlflow.entities import Param

    for name, value in _PATIENCE.items():
        os.environ.setdefault(name, value)
    own = run.tracking.of(MlflowSettings)
    client = MlflowClient(tracking_uri=own.mlflow_uri or None)
    if (known := run.known_id(BACKEND)) is not None:
        client.update_run(known, status="RUNNING")
        return Mlflow(client, known)
    experiment = client.get_experiment_by_name(own.labels.project)
    found = experiment.experiment_id if experiment else client.create_experiment(own.labels.project)
    run_id = client.create_run(found, run_name=run.name).info.run_id
    run.keep_id(BACKEND, run_id)
    parameters = [Param(key, _short(str(value))) for key, value in flat(run.settings)]
    for some in _batches(parameters):
        client.log_batch(run_id, params=some)
    return Mlflow(client, run_id)


def flat(table: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of nested tables with its dotted key."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", value


def _short(value: str) -> str:
    if len(value) <= _LONGEST_PARAMETER:
        return value
    note = " ... (cut; config.json in the run's folder has all of it)"
    return value[: _LONGEST_PARAMETER - len(note)] + note


def _batches(parameters: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(parameters), _PARAMETERS_A_BATCH):
        yield parameters[first : first + _PARAMETERS_A_BATCH]


SPEC: Final = TrackerSpec(
    about="MLflow: a tracking server, a database such as sqlite:///mlflow.db, or a folder",
    package="mlflow",
    install="pip install 'splitfl[mlflow]'",
    settings=MlflowSettings,
    start=start,
)
