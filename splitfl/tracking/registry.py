"""The experiment trackers by name, with those of other packages."""

from importlib.util import find_spec
from typing import Final

from splitfl.config import TrackingConfig
from splitfl.core.errors import ConfigError
from splitfl.core.registry import Registry
from splitfl.tracking import mlflow, tensorboard, wandb
from splitfl.tracking.spec import TrackerSpec

TRACKERS: Final = Registry(
    "splitfl.trackers",
    TrackerSpec,
    {"tensorboard": tensorboard.SPEC, "wandb": wandb.SPEC, "mlflow": mlflow.SPEC},
)


def check_installed(config: TrackingConfig) -> dict[str, TrackerSpec]:
    """The trackers of `tracking.to`; ConfigError for a missing package. Imports none of them."""
    specs = {name: TRACKERS[name] for name in config.to}
    for name, spec in specs.items():
        if find_spec(spec.package) is None:
            raise ConfigError(
                f"tracking.to names {name!r}, whose package {spec.package} is not installed: {spec.install}"
            )
    return specs
