"""Weights & Biases, offline or online."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from splitfl.config import group, one_of
from splitfl.tracking.spec import RunLabels, TrackedRun, TrackerSpec

if TYPE_CHECKING:
    from wandb import Run

BACKEND: Final = "wandb"
_UPLOAD_S: Final = 60.0
"""How long the end of a run waits for its upload."""


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """`wandb_mode` is offline (`wandb sync` uploads later) or online."""

    labels: RunLabels = group(RunLabels)
    wandb_mode: str = "offline"

    def __post_init__(self) -> None:
        one_of("tracking.wandb_mode", self.wandb_mode, ("offline", "online"))


class Wandb:
    """Metrics against `round`, since wandb's own steps cannot go back to a checkpoint."""

    def __init__(self, run: "Run") -> None:
        self._run = run
        self._exit_code: int | None = None

    def log(self, round_index: int, metrics: Mapping[str, float]) -> None:
        self._run.log({"round": round_index, **metrics})

    def finish(self, summary: Mapping[str, Any]) -> None:
        self._run.summary.update(dict(summary))
        self._exit_code = 0 if summary["status"] == "done" else 1

    def close(self) -> None:
        self._run.finish(exit_code=self._exit_code)


def start(run: TrackedRun) -> Wandb:
    """A run in the folder `wandb`, beside any other that this process may have.

    A resumed run keeps its ID: online it is continued, offline a second folder of the same ID is written;
    `wandb sync` uploads both as one run.
    """
    import wandb

    own = run.tracking.of(WandbSettings)
    session = wandb.init(
        project=own.labels.project,
        name=run.name,
        id=run.known_id(BACKEND),
        dir=str(run.folder),
        config=dict(run.settings),
        mode="online" if own.wandb_mode == "online" else "offline",
        resume="allow" if own.wandb_mode == "online" else None,
        reinit="create_new",
        settings=wandb.Settings(
            console="off", silent=True, finish_timeout=_UPLOAD_S, finish_timeout_raises=True
        ),
    )
    run.keep_id(BACKEND, session.id)
    session.define_metric("round")
    session.define_metric("*", step_metric="round")
    return Wandb(session)


SPEC: Final = TrackerSpec(
    about="Weights & Biases: offline in the folder `wandb` of the run, or online",
    package="wandb",
    install="pip install 'splitfl[wandb]'",
    settings=WandbSettings,
    start=start,
)
