"""The experiment trackers by name, those of other packages too, and what is refused before a run starts."""

from dataclasses import fields
from importlib.util import find_spec
from typing import Final

from splitfl.config import TrackingConfig, one_of
from splitfl.core.errors import ConfigError
from splitfl.core.registry import Registry
from splitfl.run_folder.trackers import mlflow, tensorboard, wandb
from splitfl.run_folder.trackers.spec import TrackerSpec

TRACKERS: Final = Registry(
    "splitfl.trackers",
    TrackerSpec,
    {"tensorboard": tensorboard.SPEC, "wandb": wandb.SPEC, "mlflow": mlflow.SPEC},
)


def chosen(config: TrackingConfig) -> dict[str, TrackerSpec]:
    """The backends of `tracking.to`; ConfigError for an unknown name or a key that none of them reads."""
    for name in config.to:
        if name not in TRACKERS:
            one_of("tracking.to", name, TRACKERS)
    specs = {name: TRACKERS[name] for name in config.to}
    for field in fields(config):
        is_read = field.name == "to" or any(field.name in spec.settings for spec in specs.values())
        if not is_read and getattr(config, field.name) != field.default:
            readers = ", ".join(name for name, spec in TRACKERS.items() if field.name in spec.settings)
            raise ConfigError(
                f"tracking.{field.name} is read by {readers}; tracking.to names {', '.join(specs) or 'none'}"
            )
    return specs


def check_installed(config: TrackingConfig) -> dict[str, TrackerSpec]:
    """See `chosen`; ConfigError, too, where a backend's package is not installed. Imports none of them."""
    specs = chosen(config)
    for name, spec in specs.items():
        if find_spec(spec.package) is None:
            raise ConfigError(
                f"tracking.to names {name!r}, whose package {spec.package} is not installed: {spec.install}"
            )
    return specs
