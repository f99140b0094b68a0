"""Experiment trackers that receive the metrics of a run."""

from dataclasses import dataclass

from splitfl.config.plugin import PluginTable
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TrackingConfig(PluginTable):
    """Experiment trackers for metrics, besides the run's `metrics.jsonl`; `to` may name several."""

    to: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.to)) < len(self.to):
            raise ConfigError(f"to must name each tracker once, got {', '.join(self.to)}")
