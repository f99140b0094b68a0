"""Runs of a study over the transport of their settings, each in its own folder and run only once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.local_clients import run_here
from splitfl.comparison.cached_runs import run_once as run_once_by
from splitfl.config import RunConfig
from splitfl.setup.experiment_file import from_dict


def run_once(config: RunConfig, folder: Path) -> dict[str, Any]:
    """See `splitfl.comparison.cached_runs.run_once`; over the transport of the settings."""
    return run_once_by(config, folder, run_here)


def changed(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> RunConfig:
    """These settings with `table.key` replaced."""
    return from_dict(table, [f"{key}={json.dumps(value)}" for key, value in overrides.items()])
