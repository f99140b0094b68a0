"""Runs of a study, one after the other in this process, each in a folder of its own and none twice."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.local_clients import run_here
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.run_folder import create as runs
from splitfl.run_folder.read import read_table
from splitfl.runtime.screen import Silent
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict, load


def run_once(config: RunConfig, folder: Path) -> dict[str, Any]:
    """The summary of the run of these settings in this folder, which is made unless it is there and done.

    A run that was cut short starts anew; ConfigError where the folder holds one of other settings.
    """
    summary = finished(config, folder)
    if summary is not None:
        return summary
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    site = Experiment.of(config)
    return run_here(site, lambda: runs.fill(folder, site.config), Silent())[1]


def finished(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """The summary of the run that ended well in this folder, or None; ConfigError for other settings."""
    path = folder / "summary.json"
    summary = read_table(path) if path.exists() else {}
    if summary.get("status") != "done":
        return None
    done = load(folder / "config.json")
    labels = (
        config.task.labels or done.task.labels
    )  # which a run resolves, where its settings leave them open
    if done != replace(config, task=replace(config.task, labels=labels)):
        raise ConfigError(f"{folder} holds a run of other settings: give another --out, or take it away")
    return summary


def changed(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> RunConfig:
    """These settings with `table.key` replaced."""
    return from_dict(table, [f"{key}={json.dumps(value)}" for key, value in overrides.items()])
