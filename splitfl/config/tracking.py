"""Experiment trackers that receive the metrics of a run."""

from dataclasses import dataclass

from splitfl.config.checks import one_of
from splitfl.core.errors import ConfigError

WANDB_MODES = ("offline", "online")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Experiment trackers for metrics, besides the run's `metrics.jsonl`: see `splitfl list trackers`.

    `to` may name several. `project` is the project of wandb and the experiment of mlflow, `name` the run's
    name there (empty: that of its folder). `wandb_mode` is offline (`wandb sync` uploads later) or online;
    `mlflow_uri` is the tracking URI, such as sqlite:///mlflow.db (empty: MLFLOW_TRACKING_URI, else mlflow's
    own default). A key that none of the chosen backends reads is refused
    (`splitfl.run_folder.trackers.registry`).
    """

    to: tuple[str, ...] = ()
    project: str = "splitfl"
    name: str = ""
    wandb_mode: str = "offline"
    mlflow_uri: str = ""

    def __post_init__(self) -> None:
        if len(set(self.to)) < len(self.to):
            raise ConfigError(f"to must name each tracker once, got {', '.join(self.to)}")
        one_of("wandb_mode", self.wandb_mode, WANDB_MODES)
        if not self.project:
            raise ConfigError("project must not be empty")
