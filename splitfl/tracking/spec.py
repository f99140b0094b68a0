"""What an experiment tracker is: a backend that follows one run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from splitfl.config import TrackingConfig
from splitfl.config.plugin import check_settings_type
from splitfl.core.errors import ConfigError


class Tracker(Protocol):
    """One run in one backend; any method may raise, and the run then continues without this backend."""

    def log(self, round_index: int, metrics: Mapping[str, float]) -> None:
        """Receives the metrics after a round, under the names of `metrics.jsonl` and `summary.json`.

        Losses and held-out metrics are those of the round, all other values are totals since the start. A
        round is logged again where the run was resumed from a checkpoint before it.
        """

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Receives what `summary.json` will hold; `status` is done, failed or diverged."""

    def close(self) -> None:
        """Releases the backend, also where the run continues later from a checkpoint."""


@dataclass(frozen=True, kw_only=True)
class RunLabels:
    """`project` is the project of wandb and the experiment of mlflow, `name` the run's name there.

    An empty name stands for that of the run's folder.
    """

    project: str = "splitfl"
    name: str = ""

    def __post_init__(self) -> None:
        if not self.project:
            raise ConfigError("project must not be empty")


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """What a backend is told as a run starts, or continues from `first_round`.

    `settings` are the resolved tables of the experiment.
    """

    folder: Path
    settings: Mapping[str, Any]
    tracking: TrackingConfig
    first_round: int = 0

    @property
    def name(self) -> str:
        """The name of the run in the backend."""
        labels = self.tracking.find(RunLabels)
        return (labels.name if labels else "") or self.folder.resolve().name

    def known_id(self, backend: str) -> str | None:
        """The ID that `keep_id` stored before this run was stopped, None for a new run."""
        path = self._id_file(backend)
        return path.read_text(encoding="utf-8") if path.exists() else None

    def keep_id(self, backend: str, run_id: str) -> None:
        """Stores the run's ID in the run folder, so that a resumed run continues under it."""
        path = self._id_file(backend)
        path.parent.mkdir(exist_ok=True)
        path.write_text(run_id, encoding="utf-8")

    def _id_file(self, backend: str) -> Path:
        return self.folder / backend / "run_id"


@dataclass(frozen=True, kw_only=True)
class TrackerSpec:
    """A backend: the `package` that it imports in `start`, and how to `install` that package.

    `settings` is the type of its own settings, a frozen dataclass whose fields are its keys of [tracking].
    """

    about: str
    package: str
    install: str
    settings: type
    start: Callable[[TrackedRun], Tracker]

    def __post_init__(self) -> None:
        check_settings_type("TrackerSpec.settings", self.settings, TrackingConfig)
