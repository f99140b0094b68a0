"""Runs that are kept: each in a folder of its own, and none twice."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.core.errors import ConfigError
from splitfl.run_folder import create as runs
from splitfl.run_folder.read import read_table
from splitfl.runtime.run import run_in_one_process
from splitfl.runtime.screen import Screen, Silent
from splitfl.runtime.serve import Ended, NewFolder
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load

Play = Callable[[Experiment, NewFolder, Screen], Ended]
"""Runs an experiment."""


def in_one_process(site: Experiment, new_folder: NewFolder, screen: Screen) -> Ended:
    """See `run_in_one_process`, with the controller of the settings."""
    return run_in_one_process(site, new_folder, screen, controller_for=controller_for)


def run_once(config: RunConfig, folder: Path, play: Play = in_one_process) -> dict[str, Any]:
    """The summary of the run of these settings in this folder, which is made unless it is there and done.

    A run that was cut short starts anew; ConfigError where the folder holds one of other settings.
    """
    summary = finished(config, folder)
    if summary is not None:
        return summary
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    site = Experiment.of(config)
    return play(site, lambda: runs.fill(folder, site.config), Silent())[1]


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
